use std::collections::VecDeque;

use bytes::Bytes;

/// How much of an output is kept for whoever comes back.
const KEPT: usize = 64 * 1024;

/// The end of an output, so that somebody who comes back sees where things stand.
#[derive(Default)]
pub(super) struct Screen {
    last: VecDeque<u8>,
    /// Whether there was more before.
    clipped: bool,
}

impl Screen {
    pub(super) fn push(&mut self, bytes: &[u8]) {
        let end = &bytes[bytes.len().saturating_sub(KEPT)..];
        let over = (self.last.len() + end.len()).saturating_sub(KEPT);
        self.clipped |= over > 0 || end.len() < bytes.len();
        self.last.drain(..over);
        self.last.extend(end);
    }

    /// What is kept. Where its beginning was lost, it begins with a whole character (of UTF-8).
    pub(super) fn shown(&self) -> Bytes {
        let rest = self.last.iter().take(3).take_while(|byte| self.clipped && **byte & 0b1100_0000 == 0b1000_0000).count();
        self.last.iter().skip(rest).copied().collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_end_is_kept_and_begins_with_a_whole_character() {
        let mut screen = Screen::default();
        assert!(screen.shown().is_empty());
        screen.push(b"\x80raw");
        assert_eq!(&screen.shown()[..], b"\x80raw", "nothing was lost, and nothing is taken away");
        screen.push(&"\u{1F980}".repeat(KEPT / 4).into_bytes());
        assert_eq!(screen.shown().len(), KEPT);
        for (pushed, left) in [(1, KEPT - 3), (2, KEPT - 1 - 2), (1, KEPT)] {
            screen.push(&b"xyz"[..pushed]);
            let shown = screen.shown();
            assert!(shown.len() >= left - 3 && std::str::from_utf8(&shown).is_ok(), "{} bytes", shown.len());
        }
        screen.push(&vec![b'a'; 3 * KEPT]);
        assert!(screen.shown().len() == KEPT && screen.shown().iter().all(|byte| *byte == b'a'));
    }
}
