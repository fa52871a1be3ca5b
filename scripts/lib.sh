# shellcheck shell=bash
# What the scripts share: progress, packages, and daemons that are stopped only by whoever started them.

ROOT=$(cd -- "$(dirname -- "${BASH_SOURCE[0]}")/.." && pwd)
STATE=${DOCKWRIGHT_STATE:-$ROOT/target/services}
[[ $STATE == /* ]] || STATE=$PWD/$STATE
USUAL_SOCKET=/var/run/docker.sock

if [[ -t 1 ]]; then
    BOLD=$'\e[1m' GREEN=$'\e[32m' YELLOW=$'\e[33m' RED=$'\e[31m' PLAIN=$'\e[0m'
else
    BOLD='' GREEN='' YELLOW='' RED='' PLAIN=''
fi

step() { printf '%s==> %s%s\n' "$BOLD" "$*" "$PLAIN"; }
ok() { printf '  %sok%s  %s\n' "$GREEN" "$PLAIN" "$*"; }
note() { printf '      %s\n' "$*"; }
warn() { printf '  %s!!%s  %s\n' "$YELLOW" "$PLAIN" "$*" >&2; }

# die WHAT [WHAT TO DO...]
die() {
    printf '%sfailed:%s %s\n' "$RED" "$PLAIN" "$1" >&2
    shift
    [[ $# -eq 0 ]] || printf '  %s\n' "$@" >&2
    exit 1
}

have() { command -v "$1" >/dev/null 2>&1; }

# Ends with the log's tail, because the reason is nearly always there.
die_with_log() { # LOG WHAT [WHAT TO DO...]
    local log=$1
    shift
    if [[ -s $log ]]; then
        printf '  the end of %s:\n' "$log" >&2
        tail -n 15 -- "$log" | sed 's/^/    | /' >&2
    fi
    die "$@"
}

need_root() { # WHAT FOR
    [[ $EUID -eq 0 ]] || die "$1 needs root" "run this script as root (for example with sudo), or start that part yourself; it is then used as it is"
}

# Nothing may start at install: there may be no init, and what is started is started (and stopped) here.
apt_quietly() {
    local policy=/usr/sbin/policy-rc.d made=''
    if [[ ! -e $policy ]]; then
        printf '#!/bin/sh\nexit 101\n' >"$policy"
        chmod 755 "$policy"
        made=yes
    fi
    local status=0
    DEBIAN_FRONTEND=noninteractive apt-get -o DPkg::Lock::Timeout=120 -o Dpkg::Use-Pty=0 -qq "$@" >>"$STATE/apt.log" 2>&1 || status=$?
    [[ -z $made ]] || rm -f -- "$policy"
    return "$status"
}

# Installs those of the distribution's packages that are missing.
install_packages() { # PACKAGE...
    local missing=() package
    for package in "$@"; do
        [[ $(dpkg-query -W -f '${Status}' "$package" 2>/dev/null) == 'install ok installed' ]] || missing+=("$package")
    done
    [[ ${#missing[@]} -gt 0 ]] || return 0
    have apt-get || die "this machine has no apt-get" "install yourself: ${missing[*]}"
    need_root "installing ${missing[*]}"
    note "installing ${missing[*]} (log: $STATE/apt.log)"
    apt_quietly install --no-install-recommends "${missing[@]}" && return 0
    note "the package lists may be old: refreshing them"
    apt_quietly update || true
    apt_quietly install --no-install-recommends "${missing[@]}" ||
        die_with_log "$STATE/apt.log" "could not install ${missing[*]}" "check the network and /etc/apt/sources.list, then try again"
}

need_command() { # COMMAND PACKAGE
    have "$1" || install_packages "$2"
    have "$1" || die "the package $2 is installed, but there is no command $1"
}

# Polls until the command succeeds; shows that time passes.
wait_until() { # SECONDS WHAT COMMAND...
    local limit=$1 what=$2 start=$SECONDS shown=0
    shift 2
    until "$@" >/dev/null 2>&1; do
        if ((SECONDS - start >= limit)); then return 1; fi
        if ((SECONDS - start >= shown + 5)); then
            shown=$((SECONDS - start))
            note "waiting for $what (${shown} of at most ${limit} s)"
        fi
        sleep 0.2
    done
}

# ---- daemons: NAME.pid holds "PID START", and the start time makes a reused pid harmless ----

process_start() { # PID
    local stat
    stat=$(cat "/proc/$1/stat" 2>/dev/null) || return 1
    # The name (field 2) may hold anything, so count behind its last bracket.
    awk '{ if ($1 == "Z") exit 1; print $20 }' <<<"${stat##*) }"
}

daemon_pid() { # NAME -> the pid, if what was started still runs
    local pid start
    read -r pid start 2>/dev/null <"$STATE/$1.pid" || return 1
    [[ $(process_start "$pid") == "$start" ]] || return 1
    printf '%s\n' "$pid"
}

daemon_runs() { daemon_pid "$1" >/dev/null; }

start_daemon() { # NAME PROGRAM ARGUMENT...
    local name=$1 pid
    shift
    printf -- '---- %s: %s\n' "$(date -u +%FT%TZ)" "$1" >>"$STATE/$name.log"
    # Of its own session: neither Ctrl-C nor the terminal's end reaches it. Descriptor 9 is the lock.
    setsid nohup "$@" </dev/null >>"$STATE/$name.log" 2>&1 9>&- &
    pid=$!
    printf '%s %s\n' "$pid" "$(process_start "$pid")" >"$STATE/$name.pid"
}

stop_daemon() { # NAME [SECONDS]; does nothing when it is not ours or has ended
    local name=$1 limit=${2:-20} pid
    [[ -e $STATE/$name.pid ]] || return 0
    if pid=$(daemon_pid "$name"); then
        kill -TERM "$pid"
        if ! wait_until "$limit" "$name to stop" daemon_gone "$name"; then
            warn "$name did not stop within $limit s: killing process $pid"
            kill -KILL "$pid" 2>/dev/null || true
        fi
        ok "$name stopped"
    fi
    rm -f -- "$STATE/$name.pid"
}

daemon_gone() { ! daemon_runs "$1"; }

# One at a time: two that start the same things would take each other's ports.
lock_state() {
    mkdir -p -- "$STATE"
    have flock || return 0
    exec 9>"$STATE/lock"
    flock -n 9 && return 0
    note "another script is busy with $STATE: waiting for it"
    flock -w 300 9 || die "another script has held $STATE/lock for 5 minutes"
}

# ---- who answers ----

http_status() { # URL [CURL ARGUMENT...] -> the status, 000 when nothing answers
    local url=$1
    shift
    curl -sS -o /dev/null -m 5 --noproxy '*' -w '%{http_code}' "$@" "$url" 2>/dev/null || true
}

port_taken() { # HOST:PORT
    (exec 3<>"/dev/tcp/${1%:*}/${1##*:}") 2>/dev/null
}

engine_answers() { # [DOCKER_HOST]
    have docker && DOCKER_HOST=${1:-} timeout 5 docker version --format '{{.Server.Version}}' >/dev/null 2>&1
}

# Leaves DOCKER_HOST as it is when an engine answers there; else unsets it, so that the usual socket counts.
choose_engine() {
    [[ -n ${DOCKER_HOST:-} ]] || { unset DOCKER_HOST && return 0; }
    engine_answers "$DOCKER_HOST" && return 0
    [[ $DOCKER_HOST == "unix://$USUAL_SOCKET" ]] || warn "no engine answers at DOCKER_HOST=$DOCKER_HOST: using $USUAL_SOCKET"
    unset DOCKER_HOST
}
