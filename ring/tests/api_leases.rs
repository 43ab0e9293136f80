//! Roles that are taken by leases, for both kinds of ring.
#![cfg(all(feature = "std", not(loom)))]
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::cast_possible_truncation,
    reason = "tests: a wrong index or a missing value shall fail the test"
)]

mod hostile_memory;
mod leased;

use std::collections::BTreeSet;
use std::error::Error;
use std::mem::ManuallyDrop;
use std::sync::{Arc, Mutex};
use std::thread;

use hostile_memory::{LINE, Memory, STRIDES, assert_same};
use leased::{Kind, Records, Slots};
use tidewire_ring::{AttachError, Options};
use tidewire_shm::{
    Field, Incompatible, KERNEL_LEASES, LeaseError, Liveness, RoleId, RoleStride, Segment, SegmentLeases,
    Tenancy, Unleased,
};

fn producer_role() -> RoleId {
    RoleId::producer(0).unwrap()
}

/// Who holds a lease, of all roles; a kernel for threads.
#[derive(Clone, Default)]
struct Table(Arc<Mutex<BTreeSet<RoleId>>>);

impl Table {
    /// What a kernel does when a holder is dead, whose handle was leaked.
    fn bury(&self, role: RoleId) {
        assert!(self.0.lock().unwrap().remove(&role), "nobody held the lease of the {role}");
    }

    fn holds(&self, role: RoleId) -> bool {
        self.0.lock().unwrap().contains(&role)
    }
}

/// A held role of a [`Table`]; `last` is called before it is handed back.
struct Held {
    table: Table,
    role: RoleId,
    last: Option<Arc<dyn Fn(RoleId) + Send + Sync>>,
}

impl Drop for Held {
    fn drop(&mut self) {
        if let Some(last) = &self.last {
            last(self.role);
        }
        self.table.bury(self.role);
    }
}

fn acquire(table: &Table, role: RoleId) -> Result<Held, LeaseError> {
    if table.0.lock().unwrap().insert(role) {
        Ok(Held { table: table.clone(), role, last: None })
    } else {
        Err(LeaseError::Held { role })
    }
}

fn tenancy(table: &Table, role: RoleId) -> Tenancy {
    if table.holds(role) { Tenancy::Held } else { Tenancy::Vacant }
}

/// Leases that prove.
#[derive(Clone, Default)]
struct Leases {
    table: Table,
    last: Option<Arc<dyn Fn(RoleId) + Send + Sync>>,
}

// SAFETY: one entry per role under a lock; it goes only when the holder dropped the lease, or by `bury`, which tests call
// for leaked handles that nobody uses any more.
unsafe impl Liveness for Leases {
    type Lease = Held;
    const PROVES: bool = true;
    const KIND: u32 = 1 << 31;

    fn acquire(&self, role: RoleId) -> Result<Held, LeaseError> {
        let mut held = acquire(&self.table, role)?;
        held.last.clone_from(&self.last);
        Ok(held)
    }

    fn tenancy(&self, role: RoleId) -> Tenancy {
        tenancy(&self.table, role)
    }
}

/// A liveness over a [`Table`] that differs from [`Leases`] in its constants.
macro_rules! other_leases {
    ($(#[$doc:meta])* $name:ident: $kind:expr, $proves:literal) => {
        $(#[$doc])*
        #[derive(Clone, Default)]
        struct $name(Table);

        // SAFETY: as for `Leases`.
        unsafe impl Liveness for $name {
            type Lease = Held;
            const PROVES: bool = $proves;
            const KIND: u32 = $kind;

            fn acquire(&self, role: RoleId) -> Result<Held, LeaseError> {
                acquire(&self.0, role)
            }

            fn tenancy(&self, role: RoleId) -> Tenancy {
                tenancy(&self.0, role)
            }
        }
    };
}

other_leases!(
    /// Leases of another kind.
    Others: (1 << 31) + 1, true
);
other_leases!(
    /// Leases that keep takers apart, and prove nothing.
    Unproven: (1 << 31) + 2, false
);
other_leases!(
    /// Leases that have no kind of their own.
    Nameless: 0, true
);
other_leases!(
    /// Leases that speak only of memory that processes share.
    Kernel: KERNEL_LEASES, true
);

/// A system that refuses.
struct Refusing;

// SAFETY: no lease is ever given.
unsafe impl Liveness for Refusing {
    type Lease = ();
    const PROVES: bool = true;
    const KIND: u32 = Leases::KIND;

    fn acquire(&self, role: RoleId) -> Result<(), LeaseError> {
        Err(LeaseError::System { role, errno: 24 })
    }

    fn tenancy(&self, _role: RoleId) -> Tenancy {
        Tenancy::Unknown
    }
}

fn memory<K: Kind>(options: &Options) -> (Memory, K::Ring) {
    let memory = Memory::new(K::bytes(options));
    let ring = K::create(memory.region(), options).unwrap();
    (memory, ring)
}

fn ring<K: Kind, V: Liveness>() -> (Memory, K::Ring) {
    memory::<K>(&Options::new().liveness::<V>())
}

fn error<T>(result: Result<T, AttachError>) -> AttachError {
    match result {
        Ok(_) => panic!("expected an error, found a handle"),
        Err(error) => error,
    }
}

fn popped<K: Kind>(consumer: &mut K::Consumer) -> Vec<u64> {
    std::iter::from_fn(|| K::pop(consumer)).collect()
}

fn messages_flow_between_roles_that_are_leased<K: Kind>() {
    for (stride, _) in STRIDES {
        let (memory, ring) = memory::<K>(&Options::new().role_stride(stride).liveness::<Leases>());
        let leases = Leases::default();
        let mut producer = K::producer_with(&ring, &leases).unwrap();
        // Over another opening of the same memory.
        let again = K::open(memory.region()).unwrap();
        let mut consumer = K::consumer_with(&again, &leases).unwrap();
        assert!(leases.table.holds(producer_role()) && leases.table.holds(RoleId::CONSUMER));
        for number in 0..500 {
            assert!(K::push(&mut producer, number));
            assert_eq!(K::pop(&mut consumer), Some(number));
        }
        assert_eq!(K::owners(&ring), [Some(K::pushing(&producer)), Some(K::popping(&consumer))]);
        drop((producer, consumer));
        assert_eq!(K::owners(&ring), [None; 2]);
        assert!(leases.table.0.lock().unwrap().is_empty());
        memory.assert_guards();
    }
}

fn without_a_lease_no_role_of_a_leased_ring_is_given<K: Kind>() {
    let (memory, ring) = ring::<K, Leases>();
    let leases = Leases::default();
    let producer = K::producer_with(&ring, &leases).unwrap();
    let owner = K::pushing(&producer);
    let before = memory.bytes();
    let liveness = u64::from(Leases::KIND);
    let of_producer = AttachError::LeaseRequired { role: producer_role(), liveness };
    let of_consumer = AttachError::LeaseRequired { role: RoleId::CONSUMER, liveness };
    assert_eq!(error(K::producer(&ring)), of_producer);
    assert_eq!(error(K::consumer(&ring)), of_consumer);
    // SAFETY: nothing is given.
    assert_eq!(error(unsafe { K::replace_producer(&ring, owner) }), of_producer);
    // SAFETY: nothing is given.
    assert_eq!(error(unsafe { K::replace_consumer(&ring, owner) }), of_consumer);
    assert_eq!(error(K::split(K::open(memory.region()).unwrap())), of_producer);
    assert_same(&before, &memory.bytes());
}

#[test]
fn the_refusal_says_what_to_call() {
    let text = |role| AttachError::LeaseRequired { role, liveness: 1 }.to_string();
    assert_eq!(
        text(producer_role()),
        "expected the producer's role to be taken by producer_with with a lease of kind 1, found no lease"
    );
    assert_eq!(
        text(RoleId::CONSUMER),
        "expected the consumer's role to be taken by consumer_with with a lease of kind 1, found no lease"
    );
}

fn leases_of_another_kind_or_for_other_memory_are_refused<K: Kind>() {
    fn refused<K: Kind, Made: Liveness, Used: Liveness>(used: &Used, found: u32) {
        let (memory, ring) = ring::<K, Made>();
        let before = memory.bytes();
        let wrong = Incompatible::new(Field::Liveness, Used::KIND.into(), found.into());
        assert_eq!(error(K::producer_with(&ring, used)), AttachError::Incompatible(wrong));
        assert_eq!(error(K::consumer_with(&ring, used)), AttachError::Incompatible(wrong));
        for role in [producer_role(), RoleId::CONSUMER] {
            assert_ne!(used.tenancy(role), Tenancy::Held, "a lease was kept");
        }
        assert_same(&before, &memory.bytes());
    }

    refused::<K, Leases, Others>(&Others::default(), Leases::KIND);
    refused::<K, Leases, Unleased>(&Unleased, Leases::KIND);
    refused::<K, Leases, Nameless>(&Nameless::default(), Leases::KIND);
    // A ring that knows nothing of leases.
    refused::<K, Unleased, Leases>(&Leases::default(), 0);
    // This memory is no segment's.
    refused::<K, Kernel, Kernel>(&Kernel::default(), 0);
    let segment = Segment::anonymous(4096).unwrap();
    refused::<K, SegmentLeases, SegmentLeases>(&segment.leases().unwrap(), 0);
}

fn in_a_ring_without_leases_no_lease_changes_anything<K: Kind>() {
    let (_, ring) = memory::<K>(&Options::new());
    let mut producer = K::producer_with(&ring, &Unleased).unwrap();
    assert!(K::push(&mut producer, 1));
    let owner = K::pushing(&producer);
    assert_eq!(error(K::producer(&ring)), AttachError::RoleTaken(owner));
    assert_eq!(error(K::producer_with(&ring, &Unleased)), AttachError::RoleTaken(owner));
    drop(producer);
    let plain = K::producer(&ring).unwrap();
    // Those without a kind prove nothing here: whoever holds the role has no lease of theirs.
    let nameless = Nameless::default();
    let taken = AttachError::RoleTaken(K::pushing(&plain));
    assert_eq!(error(K::producer_with(&ring, &nameless)), taken);
    assert!(!nameless.0.holds(producer_role()));
    drop(plain);
    assert_eq!(K::pushed(&K::producer_with(&ring, &nameless).unwrap()), 1);
}

fn a_dead_producer_is_followed_and_a_living_one_is_not<K: Kind>() {
    let (_, ring) = ring::<K, Leases>();
    let leases = Leases::default();
    let mut consumer = K::consumer_with(&ring, &leases).unwrap();
    let mut all = Vec::new();
    for round in 0..5 {
        let mut producer = K::producer_with(&ring, &leases).unwrap();
        assert_eq!(K::pushed(&producer), round * 10, "it goes on where the former one ended");
        assert_eq!(K::pushing(&producer).generation, round as u32 + 1);
        for number in round * 10..round * 10 + 10 {
            assert!(K::push(&mut producer, number));
        }
        let taken = AttachError::RoleTaken(K::pushing(&producer));
        assert_eq!(error(K::producer_with(&ring, &leases)), taken);
        // Dead: nothing of it runs any more, not even its drop.
        let dead = ManuallyDrop::new(producer);
        assert_eq!(error(K::producer_with(&ring, &leases)), taken, "nobody has said that it is dead");
        assert_eq!(K::owners(&ring)[0], Some(K::pushing(&dead)));
        leases.table.bury(producer_role());
        all.extend(popped::<K>(&mut consumer));
    }
    assert_eq!(all, (0..50).collect::<Vec<_>>());
}

fn a_dead_consumer_is_followed_and_what_it_had_not_released_is_seen_again<K: Kind>() {
    let (_, ring) = ring::<K, Leases>();
    let leases = Leases::default();
    let mut producer = K::producer_with(&ring, &leases).unwrap();
    (0..40).for_each(|number| assert!(K::push(&mut producer, number)));
    let mut first = K::consumer_with(&ring, &leases).unwrap();
    K::release_every(&mut first, 4);
    (0..10).for_each(|number| assert_eq!(K::pop(&mut first), Some(number)));
    let dead = ManuallyDrop::new(first);
    let taken = AttachError::RoleTaken(K::popping(&dead));
    assert_eq!(error(K::consumer_with(&ring, &leases)), taken);
    leases.table.bury(RoleId::CONSUMER);
    let mut second = K::consumer_with(&ring, &leases).unwrap();
    assert_eq!(K::popped(&second), 8);
    assert_eq!(popped::<K>(&mut second), (8..40).collect::<Vec<_>>());
    drop(second);
    assert_eq!(K::popped(&K::consumer_with(&ring, &leases).unwrap()), 40, "an end in order repeats nothing");
}

fn leases_that_prove_nothing_take_only_free_roles<K: Kind>() {
    let (_, ring) = ring::<K, Unproven>();
    let leases = Unproven::default();
    drop(K::producer_with(&ring, &leases).unwrap());
    let leaked = ManuallyDrop::new(K::producer_with(&ring, &leases).unwrap());
    leases.0.bury(producer_role());
    let taken = AttachError::RoleTaken(K::pushing(&leaked));
    assert_eq!(error(K::producer_with(&ring, &leases)), taken);
    assert!(!leases.0.holds(producer_role()));
}

fn the_word_is_freed_and_the_head_released_before_the_lease_is_handed_back<K: Kind>() {
    let (memory, ring) = ring::<K, Leases>();
    let seen = Arc::new(Mutex::new(Vec::new()));
    let leases = Leases {
        table: Table::default(),
        last: Some(Arc::new({
            let (seen, memory) = (Arc::clone(&seen), memory.clone());
            move |role| {
                let [tail, head] = [LINE.tail, LINE.head].map(|offset| memory.word(offset));
                let owners = [LINE.producer, LINE.consumer].map(|offset| memory.word(offset) as u32);
                seen.lock().unwrap().push((role, owners, head == tail));
            }
        })),
    };
    let mut producer = K::producer_with(&ring, &leases).unwrap();
    let mut consumer = K::consumer_with(&ring, &leases).unwrap();
    K::release_every(&mut consumer, 8);
    (0..3).for_each(|number| assert!(K::push(&mut producer, number)));
    (0..3).for_each(|number| assert_eq!(K::pop(&mut consumer), Some(number)));
    assert_eq!(memory.word(LINE.head), 0);
    drop(consumer);
    drop(producer);
    let me = std::process::id();
    let expected = [(RoleId::CONSUMER, [me, 0], true), (producer_role(), [0, 0], true)];
    assert_eq!(*seen.lock().unwrap(), expected);
}

fn a_lease_that_the_system_refuses_or_somebody_holds_is_an_error<K: Kind>() {
    let (memory, ring) = ring::<K, Leases>();
    let before = memory.bytes();
    for role in [producer_role(), RoleId::CONSUMER] {
        let take = |leases: &Leases| match role {
            RoleId::CONSUMER => error(K::consumer_with(&ring, leases)),
            _ => error(K::producer_with(&ring, leases)),
        };
        // Somebody has the lease and not yet, or no more, the word.
        let leases = Leases::default();
        let _between = leases.acquire(role).unwrap();
        let refused = take(&leases);
        assert_eq!(refused, AttachError::Lease(LeaseError::Held { role }));
        assert!(refused.source().unwrap().is::<LeaseError>());
        assert_eq!(
            refused.to_string(),
            format!("expected the lease of the {role} to be free, found it held")
        );
    }
    let system = LeaseError::System { role: producer_role(), errno: 24 };
    assert_eq!(error(K::producer_with(&ring, &Refusing)), AttachError::Lease(system));
    let system = LeaseError::System { role: RoleId::CONSUMER, errno: 24 };
    assert_eq!(error(K::consumer_with(&ring, &Refusing)), AttachError::Lease(system));
    assert_same(&before, &memory.bytes());
}

fn where_the_positions_cannot_be_neither_word_nor_lease_is_kept<K: Kind>() {
    let (memory, ring) = ring::<K, Leases>();
    let leases = Leases::default();
    let _dead = ManuallyDrop::new(K::producer_with(&ring, &leases).unwrap());
    leases.table.bury(producer_role());
    memory.set_word(LINE.head, 8 << 40);
    assert!(matches!(error(K::producer_with(&ring, &leases)), AttachError::Corrupt(_)));
    assert!(matches!(error(K::consumer_with(&ring, &leases)), AttachError::Corrupt(_)));
    assert_eq!(K::owners(&ring), [None; 2]);
    assert!(leases.table.0.lock().unwrap().is_empty());
    memory.set_word(LINE.head, 0);
    assert!(K::push(&mut K::producer_with(&ring, &leases).unwrap(), 1));
}

/// A peer may write anything where the kind of the leases stands: roles are then refused, and nothing else happens.
fn any_kind_in_the_memory_is_compared<K: Kind>() {
    for (stride, offsets) in STRIDES {
        let word = if matches!(stride, RoleStride::Line) { offsets.producer + 16 } else { 128 };
        let (memory, _) = memory::<K>(&Options::new().role_stride(stride));
        for liveness in [1, u64::from(Leases::KIND) + (1 << 32), 1 << 63, u64::MAX] {
            memory.set_word(word, liveness);
            let before = memory.bytes();
            let ring = K::open(memory.region()).unwrap();
            let required = AttachError::LeaseRequired { role: producer_role(), liveness };
            assert_eq!(error(K::producer(&ring)), required);
            let leases = Leases::default();
            let other = Incompatible::new(Field::Liveness, Leases::KIND.into(), liveness);
            assert_eq!(error(K::producer_with(&ring, &leases)), AttachError::Incompatible(other));
            assert_same(&before, &memory.bytes());
        }
        // Read once: whoever opened the ring before is not misled.
        memory.set_word(word, 0);
        let ring = K::open(memory.region()).unwrap();
        memory.set_word(word, Leases::KIND.into());
        assert!(K::push(&mut K::producer(&ring).unwrap(), 1));
        let ring = K::open(memory.region()).unwrap();
        assert!(K::push(&mut K::producer_with(&ring, &Leases::default()).unwrap(), 2));
    }
}

fn a_ring_created_anew_has_the_leases_of_its_new_creator<K: Kind>() {
    let (memory, old) = ring::<K, Leases>();
    drop(old);
    let new = K::create(memory.region(), &Options::new()).unwrap();
    assert!(K::push(&mut K::producer(&new).unwrap(), 1));
    drop(new);
    let newest = K::create(memory.region(), &Options::new().liveness::<Others>()).unwrap();
    assert!(K::producer(&newest).is_err());
    assert_eq!(K::pushed(&K::producer_with(&newest, &Others::default()).unwrap()), 0);
}

/// Threads that take the role, push, and end in order or die; nothing is lost and nothing comes twice.
fn takers_that_race_follow_each_other<K: Kind>() {
    const TAKERS: u64 = 3;
    const TURNS: u64 = 60;

    let (_memory, ring) = ring::<K, Leases>();
    let leases = Leases::default();
    let mut consumer = K::consumer_with(&ring, &leases).unwrap();
    let mut all = Vec::new();
    thread::scope(|scope| {
        for taker in 0..TAKERS {
            let (ring, leases) = (&ring, leases.clone());
            scope.spawn(move || {
                for turn in 0..TURNS {
                    let mut producer = loop {
                        match K::producer_with(ring, &leases) {
                            Ok(producer) => break producer,
                            Err(AttachError::RoleTaken(_) | AttachError::Lease(_)) => thread::yield_now(),
                            Err(error) => panic!("{error}"),
                        }
                    };
                    let number = K::pushed(&producer);
                    while !K::push(&mut producer, number) {
                        thread::yield_now();
                    }
                    if (taker + turn) % 2 == 0 {
                        let _dead = ManuallyDrop::new(producer);
                        leases.table.bury(producer_role());
                    }
                }
            });
        }
        while all.len() < (TAKERS * TURNS) as usize {
            match K::pop(&mut consumer) {
                Some(number) => all.push(number),
                None => thread::yield_now(),
            }
        }
    });
    assert_eq!(all, (0..TAKERS * TURNS).collect::<Vec<_>>());
    assert_eq!(K::pop(&mut consumer), None);
}

#[test]
fn options_say_the_kind() {
    assert_eq!(Options::new().liveness, 0);
    assert_eq!(Options::default(), Options::new());
    assert_eq!(Options::new().liveness::<SegmentLeases>().liveness, KERNEL_LEASES);
    let all = Options::new().liveness::<Leases>().role_stride(RoleStride::Page).type_fingerprint(3);
    assert_eq!((all.liveness, all.role_stride, all.type_fingerprint), (1 << 31, RoleStride::Page, 3));
}

/// Each of these for both kinds of ring.
macro_rules! of_both {
    ($($name:ident),+ $(,)?) => {
        mod slots {
            $(
                #[test]
                fn $name() {
                    super::$name::<super::Slots>();
                }
            )+
        }
        mod records {
            $(
                #[test]
                fn $name() {
                    super::$name::<super::Records>();
                }
            )+
        }
    };
}

of_both!(
    messages_flow_between_roles_that_are_leased,
    without_a_lease_no_role_of_a_leased_ring_is_given,
    leases_of_another_kind_or_for_other_memory_are_refused,
    in_a_ring_without_leases_no_lease_changes_anything,
    a_dead_producer_is_followed_and_a_living_one_is_not,
    a_dead_consumer_is_followed_and_what_it_had_not_released_is_seen_again,
    leases_that_prove_nothing_take_only_free_roles,
    the_word_is_freed_and_the_head_released_before_the_lease_is_handed_back,
    a_lease_that_the_system_refuses_or_somebody_holds_is_an_error,
    where_the_positions_cannot_be_neither_word_nor_lease_is_kept,
    any_kind_in_the_memory_is_compared,
    a_ring_created_anew_has_the_leases_of_its_new_creator,
    takers_that_race_follow_each_other,
);
