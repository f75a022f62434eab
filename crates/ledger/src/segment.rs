//! The form of a file of rows: what a crash can tear off its end is told from what is damaged.
//!
//! A row is a frame: its length (u32), the check of that length (u32), the checksum of the bytes (u64), and the bytes,
//! JSON. Numbers are little-endian, checksums are XXH3. A length has a check of its own, so that a damaged row does
//! not hide the rows behind it, and a damaged length is not taken for a row that was torn.

use xxhash_rust::xxh3::xxh3_64;

use crate::row::Row;

const HEADER: usize = 16;

/// What a file holds.
#[derive(Debug, Default, PartialEq)]
pub(crate) struct Contents {
    pub(crate) rows: Vec<Row>,
    /// The last frame is not whole: a crash came while it was written.
    pub(crate) torn: bool,
    /// Something else is wrong: rows may be missing.
    pub(crate) damaged: bool,
}

enum Frame<'a> {
    Whole { payload: &'a [u8], rest: &'a [u8] },
    Damaged { rest: &'a [u8] },
    Torn,
    Unreadable,
}

/// Append the frame of `row`. A row that can not be written as JSON does not exist.
pub(crate) fn append(out: &mut Vec<u8>, row: &Row) {
    let Ok(payload) = serde_json::to_vec(row) else { return };
    let Ok(length) = u32::try_from(payload.len()) else { return };
    out.extend_from_slice(&length.to_le_bytes());
    out.extend_from_slice(&check(length).to_le_bytes());
    out.extend_from_slice(&xxh3_64(&payload).to_le_bytes());
    out.extend_from_slice(&payload);
}

/// Read all frames of a file.
pub(crate) fn read(mut bytes: &[u8]) -> Contents {
    let mut contents = Contents::default();
    while !bytes.is_empty() {
        bytes = match next(bytes) {
            Frame::Whole { payload, rest } => {
                match serde_json::from_slice(payload) {
                    Ok(row) => contents.rows.push(row),
                    // written by a version that is not ours
                    Err(_) => contents.damaged = true,
                }
                rest
            }
            Frame::Damaged { rest } => {
                contents.damaged = true;
                rest
            }
            Frame::Torn => {
                contents.torn = true;
                break;
            }
            Frame::Unreadable => {
                contents.damaged = true;
                break;
            }
        }
    }
    contents
}

fn next(bytes: &[u8]) -> Frame<'_> {
    // Some file systems have made a file longer, but not yet written what is there, when the power goes.
    if bytes.iter().all(|&byte| byte == 0) {
        return Frame::Torn;
    }
    let Some((header, behind)) = bytes.split_at_checked(HEADER) else { return Frame::Torn };
    let (length, rest) = header.split_at(4);
    let (length_check, checksum) = rest.split_at(4);
    let length = number(length) as u32;
    if u64::from(check(length)) != number(length_check) {
        return Frame::Unreadable;
    }
    let Some((payload, rest)) = behind.split_at_checked(length as usize) else { return Frame::Torn };
    if xxh3_64(payload) == number(checksum) {
        Frame::Whole { payload, rest }
    } else {
        Frame::Damaged { rest }
    }
}

fn check(length: u32) -> u32 {
    xxh3_64(&length.to_le_bytes()) as u32
}

/// At most eight bytes, little-endian.
fn number(bytes: &[u8]) -> u64 {
    bytes.iter().rev().fold(0, |number, &byte| number << 8 | u64::from(byte))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tests::entry;

    fn three() -> (Vec<Row>, Vec<u8>, usize) {
        let rows: Vec<Row> = (0..3).map(|number| Row::from(entry(number))).collect();
        let mut bytes = Vec::new();
        let mut second = 0;
        for (idx, row) in rows.iter().enumerate() {
            if idx == 1 {
                second = bytes.len();
            }
            append(&mut bytes, row);
        }
        (rows, bytes, second)
    }

    #[test]
    fn rows_come_back_as_they_were() {
        let (rows, bytes, _) = three();
        assert_eq!(read(&bytes), Contents { rows, torn: false, damaged: false });
    }

    #[test]
    fn wherever_a_file_is_torn_the_rows_before_are_whole() {
        let (rows, bytes, second) = three();
        for end in second + 1..bytes.len() {
            let contents = read(&bytes[..end]);
            assert!(!contents.damaged, "torn at {end}");
            assert!(contents.rows == rows[..contents.rows.len()] && contents.rows.len() < 3, "torn at {end}");
        }
        let mut longer = bytes.clone();
        longer.extend([0; 4096]);
        assert_eq!(read(&longer), Contents { rows, torn: true, damaged: false });
    }

    #[test]
    fn whatever_byte_is_damaged_is_noticed_and_the_other_rows_are_read() {
        let (rows, bytes, second) = three();
        for idx in second..bytes.len() {
            let mut bytes = bytes.clone();
            bytes[idx] ^= 0x10;
            let contents = read(&bytes);
            assert!(contents.damaged && !contents.torn, "damaged at {idx}");
            assert_eq!(contents.rows[0], rows[0]);
            let of_second = idx < second + (bytes.len() - second) / 2;
            if of_second && idx >= second + 8 {
                assert_eq!(contents.rows.last(), rows.last(), "damaged at {idx}");
            }
        }
    }
}
