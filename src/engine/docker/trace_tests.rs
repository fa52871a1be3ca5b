use super::*;

fn at(seconds: i64) -> Option<Timestamp> {
    Some(Timestamp { seconds, nanos: 0 })
}

fn vertex(digest: &str, started: Option<i64>, completed: Option<i64>) -> Vertex {
    Vertex {
        digest: digest.into(),
        name: format!("[1/1] RUN {digest}"),
        started: started.and_then(at),
        completed: completed.and_then(at),
        ..Vertex::default()
    }
}

fn log(vertex: &str, stream: i64, msg: &str) -> VertexLog {
    VertexLog { vertex: vertex.into(), stream, msg: msg.into(), ..VertexLog::default() }
}

fn told(trace: &mut Trace, status: &StatusResponse) -> Vec<String> {
    let lines = trace.decode(&STANDARD.encode(status.encode_to_vec()));
    lines.into_iter().map(|l| format!("{:?} {}", l.stream, l.text)).collect()
}

#[test]
fn tells_begin_output_and_end_in_this_order() {
    let mut trace = Trace::default();
    let begun =
        StatusResponse { vertexes: vec![vertex("a", Some(1), None)], logs: vec![log("a", 1, "one\ntw")], ..<_>::default() };
    assert_eq!(told(&mut trace, &begun), ["Progress #1 [1/1] RUN a", "Stdout one"]);
    let ended =
        StatusResponse { vertexes: vec![vertex("a", Some(1), Some(3))], logs: vec![log("a", 2, "oops")], ..<_>::default() };
    assert_eq!(told(&mut trace, &ended), ["Stdout tw", "Stderr oops", "Progress #1 DONE 2.0s"]);
    assert_eq!(told(&mut trace, &ended)[..], [] as [&str; 0], "the same end is told once");
}

#[test]
fn tells_cached_and_failed_steps() {
    let mut trace = Trace::default();
    let cached = Vertex { cached: true, ..vertex("a", Some(1), Some(1)) };
    let failed = Vertex { error: "exit code: 7".into(), ..vertex("b", Some(1), Some(2)) };
    let waiting = vertex("c", None, None);
    let all = StatusResponse { vertexes: vec![cached, failed, waiting], ..<_>::default() };
    let expected =
        ["Progress #1 [1/1] RUN a", "Progress #2 [1/1] RUN b", "Progress #1 CACHED", "Progress #2 ERROR: exit code: 7"];
    assert_eq!(told(&mut trace, &all), expected);
}

#[test]
fn a_step_that_others_do_too_is_not_named_by_their_stages() {
    let trace = Trace::of(vec!["Build".into(), "stage-1".into()]);
    for (told, own) in [
        ("[merger-with-acme 1/2] FROM busybox", "[1/2] FROM busybox"),
        ("[linux/amd64 merger-with-acme 2/2] RUN [x y 1/2]", "[linux/amd64 2/2] RUN [x y 1/2]"),
        ("[build 1/2] FROM busybox", "[build 1/2] FROM busybox"),
        ("[stage-1 2/2] RUN x", "[stage-1 2/2] RUN x"),
        ("[stage-3 1/4] FROM busybox", "[1/4] FROM busybox"),
        ("[internal] load build context", "[internal] load build context"),
        ("exporting to image", "exporting to image"),
    ] {
        assert_eq!(trace.own(told), own);
    }
    assert_eq!(Trace::default().own("[builder 1/2] FROM busybox"), "[1/2] FROM busybox", "of one stage");
}

#[test]
fn keeps_the_tail_of_a_step_that_never_ended() {
    let mut trace = Trace::default();
    let begun = StatusResponse { vertexes: vec![vertex("a", Some(1), None)], logs: vec![log("a", 1, "tail")], ..<_>::default() };
    told(&mut trace, &begun);
    let tail = trace.finish();
    assert_eq!(tail.len(), 1);
    assert_eq!((tail[0].text.as_str(), tail[0].step.as_deref()), ("tail", Some("[1/1] RUN a")));
}

#[test]
fn transfers_are_thinned_out() {
    let mut trace = Trace::default();
    told(&mut trace, &StatusResponse { vertexes: vec![vertex("a", Some(1), None)], ..<_>::default() });
    let status = |current, second, completed| VertexStatus {
        id: "layer".into(),
        vertex: "a".into(),
        current,
        total: 2000,
        timestamp: at(second),
        completed,
        ..VertexStatus::default()
    };
    let all =
        vec![status(0, 1, None), status(500, 1, None), status(1000, 2, None), status(2000, 2, at(2)), status(2000, 3, at(2))];
    let told = told(&mut trace, &StatusResponse { statuses: all, ..<_>::default() });
    let expected =
        ["Progress #1 layer 0B / 2.00kB", "Progress #1 layer 1.00kB / 2.00kB", "Progress #1 layer 2.00kB / 2.00kB done"];
    assert_eq!(told, expected);
}

#[test]
fn what_is_no_trace_is_passed_over() {
    assert_eq!(Trace::default().decode("%%%"), []);
    assert_eq!(Trace::default().decode(&STANDARD.encode([0xFF; 9])), []);
}
