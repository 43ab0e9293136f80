//! Channels between users: whoever the permissions admit takes part, nobody else does, deaths are told across users, and a
//! member of the group that shortens a file crashes nobody.
//!
//! Peers become other users, which takes root. Where that cannot be had, it is said, and the same is tested with one user.
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::print_stderr,
    clippy::semicolon_if_nothing_returned,
    reason = "tests may panic, and tell"
)]

mod peer;

use std::fmt::Debug;
use std::fs::{self, Permissions};
use std::os::unix::fs::{PermissionsExt, chown};
use std::path::Path;
use std::time::{Duration, Instant};

use peer::{Peer, listen, role, say};
use rustix::process::{DumpableBehavior, geteuid, set_dumpable_behavior};
use tempfile::TempDir;
use tidewire::shm::{CleanMode, SegmentError, StalePolicy, guard_sigbus};
use tidewire::{Kind, OpenError, Options, RecvTimeoutError, SendError, TrySendError};

const KINDS: [Kind; 3] = [Kind::Lanes, Kind::Ordered, Kind::Single];
const LONG: Duration = Duration::from_secs(20);
const NAME: &str = "shared";

/// Users and groups that need no entry anywhere.
const MEMBER: &str = "65534 54323";
const MEMBER_UID: u32 = 65_534;
const OTHER_MEMBER: &str = "54321 54323";
const STRANGER: &str = "54322 54324";
const GROUP: u32 = 54_323;
/// A peer that stays who it is.
const SAME: &str = "- -";

fn options(place: &Path, mode: u32) -> Options {
    Options::new().directory(place.join("d")).capacity(64).permissions(mode)
}

/// Where all users can look, with a directory for the group.
fn place(mode: u32) -> (TempDir, bool) {
    let open = Permissions::from_mode(0o755);
    let place = tempfile::Builder::new().permissions(open).tempdir_in("/dev/shm").unwrap();
    guard_sigbus().unwrap();
    let others = can_be_others(place.path());
    if others {
        let directory = place.path().join("d");
        fs::create_dir(&directory).unwrap();
        chown(&directory, Some(0), Some(GROUP)).unwrap();
        fs::set_permissions(&directory, Permissions::from_mode(mode)).unwrap();
    }
    (place, others)
}

fn start(user: &str, what: &str, place: &Path) -> Peer {
    Peer::start(&format!("{user} {what}"), place)
}

/// Whether this process can start others as other users; says so if not.
fn can_be_others(place: &Path) -> bool {
    let can = geteuid().is_root() && start(MEMBER, "nothing", place).hear().as_deref() == Some("there");
    if !can {
        eprintln!("tested with one user only: this process cannot become another");
    }
    can
}

/// Becomes another user, with one group.
fn become_user(uid: &str, gid: &str) {
    if let (Ok(uid), Ok(gid)) = (uid.parse::<u32>(), gid.parse::<u32>()) {
        // SAFETY: no groups are read from the pointer.
        assert_eq!(unsafe { libc::setgroups(0, std::ptr::null()) }, 0, "refused");
        // SAFETY: a call with a number.
        assert_eq!(unsafe { libc::setgid(gid) }, 0, "refused");
        // SAFETY: as above.
        assert_eq!(unsafe { libc::setuid(uid) }, 0, "refused");
        // As of a process that was started by that user.
        set_dumpable_behavior(DumpableBehavior::Dumpable).unwrap();
    }
}

/// Whether this process may look into that one, as it must to find its notice.
fn may_look_into(pid: &str) -> bool {
    fs::read_dir(format!("/proc/{pid}/fd")).is_ok()
}

fn why<T>(opened: Result<T, OpenError>) -> String {
    match opened {
        Ok(_) => "done".to_owned(),
        Err(OpenError::Segment(SegmentError::Permission { operation, .. })) => {
            format!("not permitted to {operation}")
        }
        Err(error) => error.to_string(),
    }
}

/// What a peer does.
#[test]
fn peer() {
    let Some((role, place)) = role() else { return };
    let words: Vec<&str> = role.split(' ').collect();
    become_user(words[0], words[1]);
    let place = Path::new(&place);
    let mode = words.get(3).map_or(0, |mode| u32::from_str_radix(mode, 8).unwrap());
    let options = options(place, mode).kind(match words.get(4) {
        Some(&"ordered") => Kind::Ordered,
        Some(&"single") => Kind::Single,
        _ => Kind::Lanes,
    });
    guard_sigbus().unwrap();
    // The one who creates.
    let known = options.clone().owner(MEMBER_UID);
    match words[2] {
        "nothing" => say("there"),
        // Sends what it is told to, until it is killed.
        "send" => {
            let mut tx = known.sender_in::<u64>(NAME, LONG).unwrap();
            say("there");
            loop {
                tx.send(listen().parse().unwrap()).unwrap();
                say("sent");
            }
        }
        // Sends until it is told that nobody receives.
        "flood" => {
            let mut tx = known.sender_in::<u64>(NAME, LONG).unwrap();
            say("there");
            say(may_look_into(&listen()));
            let error = (0..).find_map(|i| tx.send(i).err()).unwrap();
            assert!(matches!(error, SendError::Disconnected(_)), "{error:?}");
            say("disconnected");
        }
        // Receives until it is told that nobody sends.
        "receive" => {
            let mut rx = options.receiver::<u64>(NAME).unwrap();
            say("there");
            say(may_look_into(&listen()));
            assert_eq!(rx.recv_timeout(LONG), Ok(7));
            assert_eq!(rx.recv_timeout(LONG), Err(RecvTimeoutError::Disconnected));
            say("disconnected");
            assert!(rx.wait_senders(1, LONG));
            say("met");
            assert_eq!(futures_lite::future::block_on(rx.recv_async()), Ok(8));
            assert!(futures_lite::future::block_on(rx.recv_async()).is_err());
            say("disconnected");
            listen();
        }
        "idle" => {
            let _rx = options.receiver::<u64>(NAME).unwrap();
            say("there");
            listen();
        }
        "try-send" => say(why(known.sender::<u64>(NAME))),
        "try-observe" => {
            let found = options.observer::<u64>(NAME).map(|mut rx| {
                say("there");
                assert_eq!(rx.recv(), Ok(7));
            });
            say(why(found));
        }
        "try-subscribe" => say(why(options.subscriber::<u64>(NAME))),
        "try-read" => say(why(options.latest_reader::<u64>(NAME).map(|mut rx| {
            assert_eq!(rx.load().unwrap().value, 7);
        }))),
        "try-write" => say(why(options.latest_writer::<u64>(NAME, 8))),
        "inspect" => say(why(options.inspect(NAME).map(|report| assert_eq!(report.entry.here, 1)))),
        "clean" => say(format!("{:?}", options.clean(CleanMode::Remove).unwrap()[0].verdict)),
        "adopt" => say(why(known.receiver::<u64>(NAME))),
        "recreate" => say(why(known.stale(StalePolicy::Recreate).receiver::<u64>(NAME))),
        // Sends three, is told to, and makes the file short.
        "shorten" => {
            let mut tx = options.sender_in::<u64>(NAME, LONG).unwrap();
            (0..3).for_each(|i| tx.send(i).unwrap());
            say("there");
            listen();
            let file = fs::OpenOptions::new().write(true).open(place.join("d").join(NAME)).unwrap();
            file.set_len(0).unwrap();
            say("short");
            listen();
        }
        other => panic!("no such role: {other}"),
    }
}

fn kind_name(kind: Kind) -> &'static str {
    match kind {
        Kind::Ordered => "ordered",
        Kind::Single => "single",
        _ => "lanes",
    }
}

fn ask(user: &str, what: &str, place: &Path) -> String {
    start(user, what, place).hear().unwrap()
}

#[test]
fn a_member_of_the_group_sends_and_its_death_is_told() {
    for kind in KINDS {
        let (place, others) = place(0o3770);
        let member = if others { MEMBER } else { SAME };
        let mut rx = options(place.path(), 0o660).kind(kind).receiver::<u64>(NAME).unwrap();
        let what = format!("send 660 {}", kind_name(kind));
        let mut sender = start(member, &what, place.path());
        assert_eq!(sender.hear().as_deref(), Some("there"));
        for i in 0..100 {
            sender.tell(&i.to_string());
            assert_eq!(sender.hear().as_deref(), Some("sent"));
            assert_eq!(rx.recv_timeout(LONG), Ok(i), "{kind:?}");
        }
        sender.tell("7");
        assert_eq!(sender.hear().as_deref(), Some("sent"));
        sender.kill();
        assert_eq!(rx.recv_timeout(LONG), Ok(7));
        assert_eq!(rx.recv_timeout(LONG), Err(RecvTimeoutError::Disconnected), "{kind:?}");
    }
}

#[test]
fn whoever_is_not_admitted_is_refused() {
    let (place, others) = place(0o3770);
    let shared = options(place.path(), 0o660);
    let rx = shared.receiver::<u64>(NAME).unwrap();
    // Another mode than that of the channel, by anybody.
    let narrow = ask(SAME, "try-send 600", place.path());
    assert!(narrow.ends_with("expected mode 0700, found mode 0770"), "{narrow}");
    let strange = ask(SAME, "try-send 755", place.path());
    assert!(strange.ends_with("expected 0600, 0640, 0644, 0660, 0664 or 0666, found 0755"), "{strange}");
    let without = why(Options::new().permissions(0o660).receiver::<u64>(NAME));
    assert!(without.contains("expected a directory of its own to be chosen for mode 0660"), "{without}");
    if others {
        let refused = "not permitted to open the directory of segments";
        assert_eq!(ask(STRANGER, "try-send 660", place.path()), refused);
        assert_eq!(ask(MEMBER, "try-send 660", place.path()), "done");
        let private = ask(MEMBER, "try-send 600", place.path());
        assert!(private.ends_with("expected owner 65534, found owner 0"), "{private}");
    }
    drop(rx);
    fs::remove_dir_all(place.path().join("d")).unwrap();
    // The default: neither the one nor the other.
    let private = Options::new().directory(place.path().join("d"));
    let _rx = private.receiver::<u64>(NAME).unwrap();
    if others {
        for user in [MEMBER, STRANGER] {
            for mode in ["600", "660", "666"] {
                let refused = ask(user, &format!("try-send {mode}"), place.path());
                assert_eq!(refused, "not permitted to open the directory of segments");
            }
        }
    }
}

/// None of the two may look into the other: they cannot find its notice, and ask for its lease.
#[test]
fn users_that_cannot_look_into_each_other_are_told_of_deaths() {
    for kind in KINDS {
        let (place, others) = place(0o3770);
        let (one, other) = if others { (MEMBER, OTHER_MEMBER) } else { (SAME, SAME) };
        let what = |role: &str| format!("{role} 660 {}", kind_name(kind));
        let mut receiver = start(one, &what("receive"), place.path());
        assert_eq!(receiver.hear().as_deref(), Some("there"));
        let mut sender = start(other, &what("send"), place.path());
        assert_eq!(sender.hear().as_deref(), Some("there"));
        receiver.tell(&sender.child.id().to_string());
        let seen = receiver.hear().unwrap();
        assert_eq!(seen == "true", !others, "whom it may look into is not what this test is about");
        for message in ["7", "8"] {
            sender.tell(message);
            assert_eq!(sender.hear().as_deref(), Some("sent"));
            sender.kill();
            assert_eq!(receiver.hear().as_deref(), Some("disconnected"), "{kind:?}");
            if message == "7" {
                sender = start(other, &what("send"), place.path());
                assert_eq!(sender.hear().as_deref(), Some("there"));
                assert_eq!(receiver.hear().as_deref(), Some("met"));
            }
        }
        let mut flooding = start(other, &what("flood"), place.path());
        assert_eq!(flooding.hear().as_deref(), Some("there"));
        flooding.tell(&receiver.child.id().to_string());
        assert_eq!(flooding.hear().unwrap() == "true", !others);
        receiver.kill();
        assert_eq!(flooding.hear().as_deref(), Some("disconnected"), "{kind:?}");
    }
}

#[test]
fn who_may_only_read_looks_and_takes_no_part() {
    let (place, others) = place(0o2750);
    let member = if others { MEMBER } else { SAME };
    let shared = options(place.path(), 0o640);
    let refused = if others { "not permitted to open the segment" } else { "done" };

    let tx = shared.latest_writer::<u64>(NAME, 7).unwrap();
    assert_eq!(ask(member, "try-read 640", place.path()), "done");
    assert_eq!(ask(member, "inspect 640", place.path()), "done");
    if others {
        assert_eq!(ask(member, "try-write 640", place.path()), refused);
        assert_eq!(
            ask(STRANGER, "try-read 640", place.path()),
            "not permitted to open the directory of segments"
        );
    }
    drop(tx);
    shared.clean(CleanMode::Remove).unwrap();

    let mut tx = shared.publisher::<u64>(NAME).unwrap();
    let mut observer = start(member, "try-observe 640", place.path());
    assert_eq!(observer.hear().as_deref(), Some("there"));
    tx.publish(7).unwrap();
    assert_eq!(observer.hear().as_deref(), Some("done"));
    assert_eq!(ask(member, "try-subscribe 640", place.path()), refused);
    drop(tx);

    let other = place.path().join("d").join(NAME);
    let _gone = fs::remove_file(other);
    let _rx = shared.receiver::<u64>(NAME).unwrap();
    assert_eq!(ask(member, "try-send 640", place.path()), refused);
}

/// What one user left another goes on with, and cannot take the name away from.
#[test]
fn what_a_member_left_another_adopts_and_does_not_replace() {
    let (place, others) = place(0o3770);
    let (one, other) = if others { (MEMBER, OTHER_MEMBER) } else { (SAME, SAME) };
    let mut first = start(one, "idle 660", place.path());
    assert_eq!(first.hear().as_deref(), Some("there"));
    let mut sender = start(other, "send 660", place.path());
    assert_eq!(sender.hear().as_deref(), Some("there"));
    sender.tell("7");
    assert_eq!(sender.hear().as_deref(), Some("sent"));
    first.kill();
    sender.kill();
    if others {
        let kept = ask(other, "recreate 660", place.path());
        assert_eq!(kept, "not permitted to remove the name");
        // It is not that user's own, nor root's.
        let verdict = ask(other, "clean 660", place.path());
        assert!(verdict.contains("Refused"), "{verdict}");
        assert!(why(options(place.path(), 0o660).receiver::<u64>(NAME)).contains("found 65534"));
    }
    assert_eq!(ask(other, "adopt 660", place.path()), "done");
    let mut rx = options(place.path(), 0o660).owner(MEMBER_UID).receiver::<u64>(NAME).unwrap();
    assert_eq!(rx.recv_timeout(LONG), Ok(7));
}

/// Says that it is spoilt, or that nobody or nothing is there; not that anything came.
fn ends<T: Debug>(mut look: impl FnMut() -> Result<T, Option<String>>) -> String {
    let start = Instant::now();
    let mut made_up = 0;
    loop {
        match look() {
            Err(Some(end)) => return end,
            Ok(_) => made_up += 1,
            Err(None) => {}
        }
        assert!(start.elapsed() < LONG, "it goes on as if nothing had happened, {made_up} messages");
    }
}

#[test]
fn a_member_that_shortens_the_file_crashes_nobody() {
    for (kind, waits) in KINDS.into_iter().flat_map(|kind| [(kind, false), (kind, true)]) {
        let (place, others) = place(0o3770);
        let member = if others { MEMBER } else { SAME };
        let shared = options(place.path(), 0o660).kind(kind);
        let mut rx = shared.receiver::<u64>(NAME).unwrap();
        let what = format!("shorten 660 {}", kind_name(kind));
        let mut hostile = start(member, &what, place.path());
        assert_eq!(hostile.hear().as_deref(), Some("there"));
        assert_eq!(rx.recv_timeout(LONG), Ok(0));
        assert_eq!(rx.recv_timeout(LONG), Ok(1));
        // One that never saw a sender has nobody to miss: it would find nothing for ever.
        assert!(rx.wait_senders(1, LONG));
        // Where there can be another sender.
        let mut tx = (kind != Kind::Single).then(|| shared.sender::<u64>(NAME).unwrap());
        hostile.tell("now");
        assert_eq!(hostile.hear().as_deref(), Some("short"));
        let end = ends(|| {
            let wait = Duration::from_millis(100);
            let found = rx.recv_timeout(if waits { wait } else { Duration::ZERO });
            found.map_err(|error| (error != RecvTimeoutError::Timeout).then(|| error.to_string()))
        });
        eprintln!("{kind:?}, receiver: {end}");
        assert!(rx.memory().is_lost(), "{kind:?}");
        if let Some(tx) = &mut tx {
            let end = ends(|| match tx.try_send(7) {
                Ok(()) => Ok(()),
                Err(TrySendError::Full(_)) => Err(None),
                Err(error) => Err(Some(error.to_string())),
            });
            eprintln!("{kind:?}, sender: {end}");
        }
        drop((rx, tx, hostile));
        assert!(shared.sender::<u64>(NAME).is_err(), "nothing that can be used is left");
    }
}
