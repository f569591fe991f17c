//! The ticket of a load: which entry was under the key when the load began, and the number of the last change of
//! tags then.

use super::chance::Id;
use crate::rules::tier::TierTicket;

const FORMAT: u8 = 1;
const SINCE: usize = 1;
const LEN: usize = 9;
const SEEN: usize = 10;

/// A parsed ticket. With one that is empty or cannot be parsed, nothing is stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Ticket<'a> {
    /// The number of the last change of a tag or of everything.
    pub(super) since: u64,
    /// The id of the frame that was there; empty if there was none.
    pub(super) seen: &'a [u8],
    /// The token of the lease that the load holds; empty without one.
    pub(super) token: &'a [u8],
}

impl<'a> Ticket<'a> {
    pub(super) fn read(ticket: &'a TierTicket) -> Option<Self> {
        let bytes = ticket.as_bytes();
        if *bytes.first()? != FORMAT {
            return None;
        }
        let since = u64::from_le_bytes(*bytes.get(SINCE..)?.first_chunk()?);
        let len = usize::from(*bytes.get(LEN)?);
        let (seen, token) = bytes.get(SEEN..)?.split_at_checked(len)?;
        Some(Self { since, seen, token })
    }

    pub(super) fn write(since: u64, seen: &[u8], token: Option<&Id>) -> TierTicket {
        let mut bytes = Vec::with_capacity(SEEN + 2 * size_of::<Id>());
        bytes.push(FORMAT);
        bytes.extend(since.to_le_bytes());
        let seen = &seen[..seen.len().min(size_of::<Id>())];
        bytes.push(seen.len() as u8);
        bytes.extend(seen);
        bytes.extend(token.into_iter().flatten());
        TierTicket::new(bytes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_ticket_says_what_was_written() {
        for (seen, token) in [(&[7; 16][..], Some([9; 16])), (&[], None), (&[1, 2], Some([0; 16]))]
        {
            let ticket = Ticket::write(1 << 50, seen, token.as_ref());
            let token = token.as_ref().map_or(&[][..], |token| &token[..]);
            assert_eq!(Ticket::read(&ticket), Some(Ticket { since: 1 << 50, seen, token }));
        }
        assert_eq!(Ticket::read(&TierTicket::default()), None);
    }

    proptest! {
        #[test]
        fn any_bytes_are_harmless(bytes: Vec<u8>) {
            let ticket = TierTicket::new(bytes);
            let _ = Ticket::read(&ticket);
        }
    }
}
