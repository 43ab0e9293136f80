//! The adapter for the bundle of rings: several producers, each with a ring of its own.

use anyhow::{Result, ensure};
use tidewire_ring::PopError;
use tidewire_ring::fixed::Ring;
use tidewire_shm::{Region, Untrusted};

use super::fixed::{FINGERPRINT, payload_bytes, send};
use super::message;
use super::oracle::Oracle;
use super::plan::{Choices, Mode, Plan, Shape, Structure, regions};
use super::side::{Outcome, Side, address};
use crate::subject::{self, Subject};

/// Messages between two reports.
const BLOCK: u64 = 1024;

/// A bundle of rings of eight-byte messages, sent one at a time.
pub(crate) struct Bundle;

fn recorded(plan: &Plan) -> subject::Bundle {
    let lossy = plan.twin.and(Some(plan.producers / 2));
    subject::Bundle { producers: plan.producers, ring: subject::Fixed { fingerprint: FINGERPRINT }, lossy }
}

fn open(region: &Region, number: u8, plan: &Plan) -> Result<Ring<[u64; 1], Untrusted>> {
    let part = subject::Bundle::part(region, number, plan.capacity)?;
    Ok(Ring::open(part, FINGERPRINT)?)
}

impl Structure for Bundle {
    fn name(&self) -> &'static str {
        "twin-bundle"
    }

    fn shapes(&self, choices: &Choices) -> Result<Vec<Shape>> {
        let capacity = choices.capacity.unwrap_or(1024);
        let shape = |producers| Shape { mode: Mode::Single, payload: (8, 8), capacity, producers };
        Ok([1, 2, 4, 16].map(shape).to_vec())
    }

    fn bytes(&self, plan: &Plan) -> Result<usize> {
        subject::Bundle::all_bytes(plan.producers, plan.capacity)
    }

    fn create(&self, plan: &Plan, region: Region) -> Result<()> {
        recorded(plan).create(region, &subject::Shape { capacity: plan.capacity, release_every: 1 })
    }

    fn recorded(&self, plan: &Plan) -> Result<Box<dyn Subject>> {
        Ok(Box::new(recorded(plan)))
    }

    fn produce(&self, side: &mut Side<'_>, all: Vec<Region>) -> Result<Outcome> {
        let addresses = all.iter().map(address).collect();
        let [region] = regions(all)?;
        let producer = open(&region, side.number(), side.plan)?.producer()?;
        Ok(Outcome { addresses, ..send::<1, 1>(side, producer)? })
    }

    fn consume(&self, side: &mut Side<'_>, all: Vec<Region>) -> Result<Outcome> {
        ensure!(side.plan.mode == Mode::Single, "expected single messages, found {}", side.plan.mode.name());
        let addresses = all.iter().map(address).collect();
        let [region] = regions(all)?;
        let rings = (0..side.plan.producers).map(|number| Ok(open(&region, number, side.plan)?.consumer()?));
        let mut consumers = rings.collect::<Result<Vec<_>>>()?;
        side.start()?;
        let mut oracle = Oracle::new(side.plan.producers);
        let (mut over, mut fruitless, mut seen) = (false, 0, 0);
        loop {
            let before = seen;
            for consumer in &mut consumers {
                match consumer.pop() {
                    Ok([word]) => {
                        oracle.see_as(word, |name| message::is(&[word], name));
                        seen += 1;
                        if seen % BLOCK == 0 {
                            side.progress(seen);
                        }
                    }
                    Err(PopError::Empty) => {}
                    Err(error) => return Err(error.into()),
                }
            }
            if seen > before {
                fruitless = 0;
            } else if over {
                break;
            } else {
                over = !side.wait_for_more(&mut fruitless);
            }
        }
        drop(consumers);
        Ok(Outcome { addresses, ..side.judged(oracle, payload_bytes::<1>) })
    }
}
