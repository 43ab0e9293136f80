//! Many producers, one consumer, one order: lanes for the messages, and a ring of *order words* that says which lane is
//! next. What a push publishes is behind everything whose push returned before.
//!
//! [`fixed`] slots and [`bytes`] records are two ways to divide the lanes; what they share, and all of the concurrency,
//! is here. A push is lock-free: it goes round again only where another push succeeded. A pop is wait-free. No system
//! calls. Taking a lane and giving back those of the dead is cold.
//!
//! # Memory layout
//! ```text
//! all but what follows is as in `layout`; this lies in its `extra`, where `b` = 8 (2 + lanes) rounded up to 128:
//!
//! line stride   page stride     writer            what
//!           0             0     consumer          version u64: block `version % 2` is valid
//!         128           128     consumer          block 0: order head u64, taken u64, heads u64 [lanes]
//!     128 + b       128 + b     consumer          block 1
//!    128 + 2b     next page     producers         hint u64: everything before this position is published
//!    256 + 2b     next page     producers         order words u64 [m]
//!
//! m         the power of two from max(1024, lanes * entries) on; entries = capacity of a lane for slots, capacity / 8
//!           for records. `extra_bytes` has room for both strides.
//! order word p % m of position p:  lap:46 | run - 1:10 | lane:8, the lane in the lowest bits
//! lane      tail u64: where it ends, exact only while nobody owns the lane (O6); head u64: what is released
//! private   producer    tail, limit = last seen head + capacity, a position up to which everything is published
//!           consumer    order head, taken, heads
//! ```
//!
//! # Protocol
//! | order word of position `p` | lap | who may leave it | next |
//! |---|---|---|---|
//! | free | `p / m` | any producer with credit in its lane, by compare-exchange | published |
//! | published | `p / m + 1` | is free for `p + m`; until its run is released the consumer may store it again as it is | |
//!
//! All zero is an empty queue. A message goes like this:
//! 1. the producer sees that its lane has room: `tail - head <= capacity - n`, the head acquired;
//! 2. it fills the slots behind its tail, which nobody looks at;
//! 3. it looks for the first order word that is free and makes it say `run` messages of its lane. **This one
//!    compare-exchange claims the place in the order and publishes the whole run.** If it fails, somebody else has
//!    published there: look further;
//! 4. it stores the lane's tail, for observers.
//!
//! The consumer goes from word to word; the lane that a published word names has the next messages at the private head
//! of that lane. Now and then it says where it is, the *checkpoint*: it writes the block that is not valid (order head,
//! taken, and the heads that differ), stores `version` to make it valid, and only then stores the heads of the lanes,
//! which gives the producers room.
//!
//! | when is the checkpoint | [`Delivery::AtLeastOnce`](crate::Delivery::AtLeastOnce) | [`Delivery::AtMostOnce`](crate::Delivery::AtMostOnce) |
//! |---|---|---|
//! | a period is over (slots: an eighth of a lane, at most 64; records: an eighth of a lane) | at the start of the next call | |
//! | the queue is found empty, `release()`, drop | then | |
//! | a call has copied out | | before it returns |
//!
//! # Invariants
//! - O1: no holes. A producer goes on from a position only where it saw that position published, or a later one that
//!   has the same word; so when it claims `p`, everything below `p` is published, however old its own view was. The
//!   hint is believed only if the word before it says the same. A word once published never becomes unpublished: the
//!   lap of a word only grows. These looks acquire, and each claim releases: by induction, whoever sees `p` published
//!   is ordered behind the claims of all positions below, too, and sees none of their words as they were before.
//! - O2: no overrun. `p + m` is claimed only after the messages of `p` are released: by the credit of the lanes at
//!   most `lanes * entries <= m` entries are published and not released at a time, and `p` to `p + m` are `m + 1`. So
//!   one of their producers has acquired a head that the consumer stored behind its look at `p`. That producer claims
//!   `p + m` itself, or is ordered before whoever does (O1): the look happens before the claim.
//! - O3: a slot is filled only by the owner of its lane between `Acquire` of a head beyond `position - capacity` and
//!   its compare-exchange; it is read or touched only by the consumer between `Acquire` of that order word and the
//!   store of a head beyond it.
//! - O4: the order is that of the pushes. If a push returned before another was called, the second cannot claim a
//!   position below: each such word is published, and a compare-exchange never sees an old value.
//! - O5: `version` makes order head, taken and all heads valid in one store, and a head is stored to a lane only when
//!   it is in the valid block. So a successor starts at one consistent place, from which on nothing is overwritten.
//! - O6: where a lane ends that nobody owns is its tail. An owner stores it before it frees the lane. Of a dead owner
//!   only the consumer knows: the lane's head and all runs of the lane from the order head on. So attachers take only
//!   lanes that are free, and the consumer frees those of the dead.
//! - O7: addresses come from private positions and private sizes; a word of a peer is loaded once per use and checked.
//!
//! # Ordering
//! | edge | releasing end | acquiring end | hands over |
//! |---|---|---|---|
//! | `order.publish` | `Publisher::publish` | `Reader::look` | filled slots of a run |
//! | `order.claim` | `Publisher::publish`, `Order::touch` | `Publisher::publish`, `Publisher::hinted`, `Order::some_published` | all claims below, and the heads that their producers had acquired |
//! | `order.free` | `Reader::checkpoint`, `Reader::adopt` | `Lane::refresh`, `Lane::attach` | free slots |
//! | `order.checkpoint` | `Reader::checkpoint` | `Reader::new`, through `role.free` or `role.proof` | where the consumer was |
//! | `role.free` | `Role::drop` | `Core::take` | the tail of the lane |
//! | `role.proof` | a lease given back, or a death that the kernel saw | the lease given to the next | all that the former holder did or saw |
//!
//! The hint itself is relaxed: what is believed is the word before it, which is acquired.
//!
//! The checkpoint's stores are in order for the compiler only. That is all that a kill at an instruction needs: a
//! successor gets the role from the kernel or from the owner word, behind all stores that were executed.
//!
//! # Crash argument
//! | point | killed or stopped here, the others see | repair | cost |
//! |---|---|---|---|
//! | attach, detach, before the tail is stored | see [`registry`](crate::registry) | the consumer reclaims | |
//! | push, before the compare-exchange | nothing of the message or run; others claim the place | none | the message in hand |
//! | push, behind it, before the tail | all of it; the tail of the lane is old | none; reclaim does not use it | nothing |
//! | push, before the hint | an old hint | none | a longer way for others |
//! | detach, behind the tail, before the owner word | a held lane without a lease | the consumer reclaims | nothing |
//! | consumer, touching an order word | the same word before and behind it | none | as while reading |
//! | consumer, while reading | messages still published | none | with at least once, seen again by a successor |
//! | checkpoint, in the block | the former checkpoint is valid | none | fewer than a period, and the batch in hand, are seen again |
//! | checkpoint, behind `version` | the new one is valid, producers wait for room | the successor stores the heads | with at most once, what the call had copied out is lost |
//! | checkpoint, between heads | the same | the same | the same |
//! | reclaim, before the owner word | a held lane without a lease; its tail right or not | reclaim again finds the same end | nothing |
//! | reclaim, behind it | a free lane | none | nothing |
//!
//! # Not guaranteed
//! Containment is weaker than with lanes: everybody can write the order words. A hostile producer can stop the queue, or
//! publish for another one; handles then latch [`Corrupt`], or the queue stays empty or full. What a lane itself says
//! wrong (a run that is longer than the lane, a frame that cannot be) takes only that lane out of use. Nobody is made
//! to read or write outside of the data, or to take more steps than said: a push gives up after 2^16 + 4m looks.
//!
//! Without reclaim the lanes of the dead stay taken. Between messages whose pushes overlap in time either order may come.
//!
//! An order word comes again after 2^46 laps, at least 2^56 entries: a producer that is stopped for exactly that long
//! inside one push (two years at 10^9 a second) could claim a position that is long over. Positions are taken modulo
//! that, heads of lanes wrap after 2^64.
//!
//! # Sources
//! Ticket rings publish place and message in two steps, and stop where a producer dies between them; here the payload
//! lies elsewhere before there is a place. The lanes, the touch and the lazy release are those of `tidewire_ring`.

mod attach;
pub mod bytes;
mod error;
pub mod fixed;
mod lane;
mod order;
mod places;
mod reader;
mod records;
mod slots;

pub use error::{Corrupt, CorruptWord, PopError, PushError, RecordPopError, RecordPushError};
pub(crate) use places::Places;
pub use tidewire_ring::Tuning;

/// A lane whose published end cannot be.
fn lying_tail(found: u64) -> tidewire_ring::Corrupt {
    tidewire_ring::Corrupt { what: tidewire_ring::CorruptWord::Tail, found }
}
