"""Leads the fuzzer beyond the first door, and keeps it from waiting there."""

import schemathesis
from schemathesis import GenerationMode

DOCKERFILE = b"FROM busybox\nRUN echo hello\n"
UPLOADS = {"/api/v1/builds", "/api/dockerfile-build/"}


@schemathesis.hook
def before_call(context, case, kwargs):
    be_brief(case.query or {})
    allowed = case.meta is not None and case.meta.generation.mode == GenerationMode.POSITIVE
    if allowed and case.operation.method.upper() == "POST" and case.operation.path in UPLOADS:
        be_acceptable(case.body)


def be_brief(query):
    """The servers have no engine: what a reader would wait for never comes. What the service refuses is sent as it is."""
    wait = str(query.get("wait", ""))
    if wait.isascii() and wait.isdigit() and 1 <= int(wait) <= 60:
        query["wait"] = 1
    if str(query.get("follow", "")).lower() == "true":
        query["follow"] = "false"


def be_acceptable(body):
    """No random bytes are a Dockerfile, and few random texts an image: every second upload gets both, and its options stay as they are."""
    if isinstance(body, dict) and len(str(body)) % 2 == 0:
        body.pop("context", None)
        body["file"] = DOCKERFILE
        if "docker_repo" in body:
            body["docker_repo"] = "127.0.0.1:5000/fuzz/app"
        elif "image" in body:
            body["image"] = ["127.0.0.1:5000/fuzz/app:1"]
