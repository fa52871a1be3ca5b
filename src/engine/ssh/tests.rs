use super::wire::{put_mpint, put_string};
use super::*;

#[test]
fn numbers_are_written_as_ssh_reads_them() {
    for (number, written) in [
        (&[0x00, 0x00][..], &[0, 0, 0, 0][..]),
        (&[0x00, 0x7f], &[0, 0, 0, 1, 0x7f]),
        (&[0x00, 0x80], &[0, 0, 0, 2, 0, 0x80]),
        (&[0x12, 0x34], &[0, 0, 0, 2, 0x12, 0x34]),
    ] {
        let mut out = Vec::new();
        put_mpint(&mut out, number);
        assert_eq!(out, written, "{number:?}");
    }
}

#[test]
fn what_is_no_key_is_told_apart() {
    use base64::Engine as _;
    let file = |body: &[u8]| {
        let body = base64::engine::general_purpose::STANDARD.encode(body);
        format!("-----BEGIN OPENSSH PRIVATE KEY-----\n{body}\n-----END OPENSSH PRIVATE KEY-----\n")
    };
    let with_cipher = |cipher: &[u8]| {
        let mut body = b"openssh-key-v1\0".to_vec();
        [cipher, b"bcrypt", b"x"].iter().for_each(|text| put_string(&mut body, text));
        body.extend([0, 0, 0, 1]);
        body
    };
    let parse = |text: &str| SigningKey::parse(text.as_bytes()).err();
    let pkcs1 = "-----BEGIN RSA PRIVATE KEY-----\nMIIE\n-----END RSA PRIVATE KEY-----\n";
    for (text, fault) in [
        ("".to_owned(), KeyFault::NotOpenSsh),
        ("ssh-ed25519 AAAAC3 ada@host".to_owned(), KeyFault::NotOpenSsh),
        (pkcs1.to_owned(), KeyFault::NotOpenSsh),
        (file(b"something else"), KeyFault::NotOpenSsh),
        ("-----BEGIN OPENSSH PRIVATE KEY-----\nb3Bl".to_owned(), KeyFault::Damaged),
        (file(&with_cipher(b"none")), KeyFault::Damaged),
        (file(&with_cipher(b"aes256-ctr")), KeyFault::Encrypted),
    ] {
        assert_eq!(parse(&text), Some(fault), "{text}");
    }
}

#[test]
fn whatever_a_client_sends_is_answered_or_ends_the_connection() {
    let agent = Agent::default();
    let failure: &[u8] = &[0, 0, 0, 1, 5];
    let framed = |message: &[u8]| {
        let mut out = Vec::new();
        put_string(&mut out, message);
        out
    };
    let none: &[u8] = &[0, 0, 0, 5, 12, 0, 0, 0, 0];
    for (message, answer) in
        [(&[11u8][..], none), (&[], failure), (&[13], failure), (&[17, 0, 0], failure), (&[13, 0, 0, 0, 9, 1], failure)]
    {
        assert_eq!(Conversation::default().take(&agent, &framed(message)).as_deref(), Ok(answer), "{message:?}");
    }
    // In pieces, and two at once.
    let mut talk = Conversation::default();
    let both = [framed(&[11]), framed(&[1])].concat();
    assert_eq!(talk.take(&agent, &both[..3]).as_deref(), Ok(&[][..]));
    assert_eq!(talk.take(&agent, &both[3..]).as_deref(), Ok(&[none, failure].concat()[..]));
    assert_eq!(Conversation::default().take(&agent, &[0, 4, 0, 1]), Err(TooLong));
}
