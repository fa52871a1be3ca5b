//! Where known texts stand in a log, whole or in long pieces.
//!
//! Each is found by its first bytes; a long one also by its blocks, from which a match is extended both ways, as rsync finds what two files
//! share: of a line that was cut or wrapped, every piece is found then that holds a whole block.

use std::ops::Range;

use secrecy::{ExposeSecret, SecretString};

/// By so many bytes a text is looked up.
const KEY: usize = 8;
/// From so many bytes on, pieces of a text are looked for as well. No more of a line's end has to be kept to find what goes on in the next.
pub(super) const LONG: usize = 64;
/// Of a long text every piece of twice as many bytes, less one, is found, and none of fewer than this.
const BLOCK: usize = 32;
/// Places that are tried for one key. Of what repeats itself so often, the others make the same matches.
const TRIED: usize = 16;

/// Known texts, sealed after the last was added.
#[derive(Default)]
pub(super) struct Forms {
    texts: Vec<SecretString>,
    /// Shorter than a key.
    short: Vec<SecretString>,
    /// By key.
    places: Vec<Place>,
    /// Of all keys: most positions in a log are passed by with one look at it.
    filter: Filter,
    /// Texts of which pieces may be told.
    public: Vec<String>,
}

#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Place {
    key: u64,
    at: u32,
    text: u32,
}

impl Forms {
    pub(super) fn add(&mut self, text: &str) {
        let secret = SecretString::from(text.to_owned());
        let bytes = text.as_bytes();
        if bytes.len() < KEY {
            self.short.push(secret);
            return;
        }
        let whole_blocks = if bytes.len() < LONG { 1 } else { bytes.len() / BLOCK };
        let known = self.texts.len();
        self.places.extend((0..whole_blocks).filter_map(|block| {
            let at = block * BLOCK;
            let key = key(&bytes[at..])?;
            Some(Place { key, at: u32::try_from(at).ok()?, text: u32::try_from(known).ok()? })
        }));
        self.texts.push(secret);
    }

    /// Pieces of this are no secret.
    pub(super) fn except(&mut self, public: String) {
        self.public.push(public);
    }

    /// Makes what was added be found.
    pub(super) fn seal(mut self) -> Self {
        self.places.sort_unstable();
        self.filter = Filter::of(&self.places);
        self
    }

    pub(super) fn is_empty(&self) -> bool {
        self.texts.is_empty() && self.short.is_empty()
    }

    /// The longest matches, from the front on; none overlaps another, and none cuts a character.
    pub(super) fn find(&self, text: &str) -> Vec<Range<usize>> {
        let (mut found, mut at, mut free) = (Vec::new(), 0, 0);
        while at < text.len() {
            let Some(here) = self.longest_at(text.as_bytes(), free, at) else {
                at += 1;
                continue;
            };
            let here = text.floor_char_boundary(here.start)..text.ceil_char_boundary(here.end);
            (at, free) = (here.end, here.end);
            found.push(here);
        }
        found
    }

    /// The longest match with the text at `at`; it reaches back to `free` at most.
    fn longest_at(&self, text: &[u8], free: usize, at: usize) -> Option<Range<usize>> {
        let here = &text[at..];
        let long = key(here).filter(|key| self.filter.may_have(*key)).into_iter().flat_map(|key| {
            let first = self.places.partition_point(|place| place.key < key);
            self.places[first..].iter().take_while(move |place| place.key == key).take(TRIED)
        });
        let long = long.filter_map(|place| self.extended(*place, text, free, at));
        let is_here = |secret: &&SecretString| here.starts_with(secret.expose_secret().as_bytes());
        let short = self.short.iter().filter(is_here).map(|secret| at..at + secret.expose_secret().len());
        long.chain(short).max_by_key(Range::len)
    }

    fn extended(&self, place: Place, text: &[u8], free: usize, at: usize) -> Option<Range<usize>> {
        let known = self.texts[place.text as usize].expose_secret().as_bytes();
        let (before, after) = known.split_at(place.at as usize);
        let same = |(a, b): &(&u8, &u8)| a == b;
        let forth = text[at..].iter().zip(after).take_while(same).count();
        let back = text[free..at].iter().rev().zip(before.iter().rev()).take_while(same).count();
        let piece = at - back..at + forth;
        let is_whole = piece.len() == known.len();
        (is_whole || (known.len() >= LONG && piece.len() >= BLOCK && !self.is_public(&text[piece.clone()]))).then_some(piece)
    }

    fn is_public(&self, piece: &[u8]) -> bool {
        std::str::from_utf8(piece).is_ok_and(|piece| self.public.iter().any(|public| public.contains(piece)))
    }
}

fn key(text: &[u8]) -> Option<u64> {
    text.first_chunk::<KEY>().map(|first| u64::from_le_bytes(*first))
}

/// A Bloom filter of one hash.
#[derive(Default)]
struct Filter {
    bits: Vec<u64>,
    shift: u32,
}

impl Filter {
    fn of(places: &[Place]) -> Self {
        let log2 = (places.len() * 16).next_power_of_two().ilog2().max(12);
        let mut filter = Self { bits: vec![0; (1 << log2) / 64], shift: 64 - log2 };
        for place in places {
            let bit = filter.bit(place.key);
            filter.bits[bit / 64] |= 1 << (bit % 64);
        }
        filter
    }

    /// The upper bits of a product depend on all of the key (Fibonacci hashing).
    fn bit(&self, key: u64) -> usize {
        usize::try_from(key.wrapping_mul(0x9E37_79B9_7F4A_7C15) >> self.shift).unwrap_or_default()
    }

    fn may_have(&self, key: u64) -> bool {
        let bit = self.bit(key);
        self.bits.get(bit / 64).is_some_and(|word| word & (1 << (bit % 64)) != 0)
    }
}
