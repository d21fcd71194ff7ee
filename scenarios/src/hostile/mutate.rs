//! Changes to an input, blind but nasty: what parsers and decoders trip over, from one seed.

use crate::dice::Dice;

/// The longest input made; the limits for what comes from outside lie below it, so that "too large"
/// is met as well.
pub const INPUT_MAX_BYTES: usize = 600 * 1024;
/// The longest piece repeated by one change.
const REPEATED_MAX: u64 = 4_096;

/// Words that mean something to one of the readers.
const WORDS: &[&[u8]] = &[
    b"null",
    b"true",
    b"-0",
    b"1e999",
    b"-1e-999",
    b"9223372036854775808",
    b"18446744073709551616",
    b"NaN",
    b".inf",
    b"\"\\ud800\"",
    b"\\u0000",
    b"\xff\xfe",
    b"\xed\xa0\x80",
    b"{}",
    b"[]",
    b"[[[[",
    b"]]]]",
    b"{%",
    b"%}",
    b"$states.input",
    b"&a",
    b"*a",
    b"<<: *a",
    b"!!binary ",
    b"---\n",
    b"...\n",
    b": ",
    b"- ",
    b"|\n",
    b"? ",
    b"../",
    b"/",
    b"\\",
    b"\0",
    b"\r\n",
    b"\n\n",
    b"**",
    b"~>",
    b":=",
    b"function($x){",
    b"}",
    b"$map(",
    b"$reduce(",
    b"$pad(\"x\",1e9)",
    b"/(a+)+$/",
    b"[0..1e6]",
    b"Next: ",
    b"End: true",
    b"Type: Pass",
    b"Resource: activity:a",
    b"Compensate: none",
    b"skald.cmd.",
    b"Skald-Status: failed\n",
    b"%2e%2e",
    b"%00",
    b"?format=text",
    b"\xdd\xff\xff\xff\xff",
    b"\xdf\xff\xff\xff\xff",
    b"\xc6\x7f\xff\xff\xff",
    b"\xdb\xff\xff\xff\xff",
    b"\xc1",
    b"\x91\x91\x91\x91",
    b"\x81\xa1a",
];

/// One to eight changes to one of `seeds`, which are not empty.
pub fn mutate(seeds: &[Vec<u8>], dice: &mut Dice) -> Vec<u8> {
    let mut bytes = pick(seeds, dice).clone();
    for _ in 0..=dice.roll(8) {
        change(&mut bytes, seeds, dice);
    }
    bytes.truncate(INPUT_MAX_BYTES);
    bytes
}

fn pick<'a, T>(from: &'a [T], dice: &mut Dice) -> &'a T {
    &from[place(from.len(), dice)]
}

/// A place in `0..length`, 0 for nothing.
fn place(length: usize, dice: &mut Dice) -> usize {
    usize::try_from(dice.roll(length as u64)).unwrap_or(0)
}

fn byte(dice: &mut Dice) -> u8 {
    u8::try_from(dice.roll(256)).unwrap_or(0)
}

fn change(bytes: &mut Vec<u8>, seeds: &[Vec<u8>], dice: &mut Dice) {
    let at = place(bytes.len(), dice);
    let until = at + place(bytes.len().saturating_sub(at).min(64) + 1, dice).min(bytes.len() - at);
    match dice.roll(12) {
        0 if !bytes.is_empty() => bytes[at] ^= 1 << dice.roll(8),
        1 if !bytes.is_empty() => bytes[at] = byte(dice),
        2 => drop(bytes.drain(at..until)),
        3 => bytes.truncate(at),
        4 => bytes.insert(at, byte(dice)),
        5 | 6 => drop(bytes.splice(at..at, pick(WORDS, dice).iter().copied())),
        7 => drop(bytes.splice(at..until, pick(WORDS, dice).iter().copied())),
        8 => {
            let piece = bytes[at..until].to_vec();
            let times = place(REPEATED_MAX as usize / piece.len().max(1), dice);
            drop(bytes.splice(at..at, piece.repeat(times)));
        }
        9 => {
            let other = pick(seeds, dice);
            let (from, to) = (place(other.len(), dice), place(other.len() + 1, dice));
            drop(bytes.splice(at..until, other[from.min(to)..from.max(to)].iter().copied()));
        }
        10 if bytes.len() >= at + 4 => {
            let wrong = [0, 1, u32::MAX, u32::MAX / 2, 0x7fff, 0x1_0000][place(6, dice)];
            bytes[at..at + 4].copy_from_slice(&wrong.to_be_bytes());
        }
        _ => {
            let digits = bytes[at..].iter().take_while(|byte| byte.is_ascii_digit()).count();
            let numbers: [&[u8]; 5] = [b"0", b"-1", b"99999999999999999999", b"1e308", b"0.0000001"];
            drop(bytes.splice(at..at + digits, pick(&numbers, dice).iter().copied()));
        }
    }
}
