use super::*;

#[test]
fn patterns_match_in_order() {
    assert!(fits("a b c", "a*c"));
    assert!(!fits("c b a", "a*c"));
}
