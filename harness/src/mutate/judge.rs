//! The verdicts: pure decisions over what was recorded, tried, found in the sources and reviewed.

use serde::Serialize;

use super::reviewed::Reviewed;
use super::run::{Fate, Model, Tried};
use super::site::Site;
use super::source::{Occurrence, Source};
use crate::report;

/// A site under test and the models that reach it, the fastest first.
#[derive(Clone, Debug)]
pub(super) struct Reached {
    pub(super) site: Site,
    pub(super) function: String,
    /// Numbers of models that pass unchanged.
    pub(super) models: Vec<usize>,
}

/// What is said about a mutant, an ordering, a model or an entry of the list.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Verdict {
    /// A model failed under the mutant, as it must.
    Killed,
    /// No model failed, or none reaches the ordering; the reviewed list says why that is so.
    Reviewed,
    /// Every model that reaches the site passes with the weaker ordering.
    Survived,
    /// No model failed, and at least one did not end in time.
    Timeout,
    /// No model failed, and at least one ended as no test ends.
    Error,
    /// Orderings are imported by their own names, or by another one, where they would not be found.
    Import,
    /// The ordering stands in the sources and no model reaches it.
    Unreached,
    /// An entry of the reviewed list that excuses nothing.
    Stale,
    /// A model that fails or hangs unchanged, or whose record cannot be read.
    Broken,
}

impl Verdict {
    pub(super) fn bad(self) -> bool {
        !matches!(self, Self::Killed | Self::Reviewed)
    }
}

/// A row of the report.
#[derive(Clone, Debug, Serialize)]
pub(super) struct Row {
    site: String,
    ordering: String,
    mutant: String,
    pub(super) verdict: Verdict,
    /// The model that decided, or the reason from the reviewed list.
    model: String,
}

impl report::Row for Row {
    const COLUMNS: &'static [(&'static str, i16)] =
        &[("site", -44), ("ordering", -9), ("mutant", -9), ("verdict", -9), ("model", -1)];

    fn cells(&self) -> Vec<String> {
        let verdict = format!("{:?}", self.verdict).to_lowercase();
        vec![self.site.clone(), self.ordering.clone(), self.mutant.clone(), verdict, self.model.clone()]
    }
}

/// The sites that stand in `sources`, each once, with the models that reach it.
pub(super) fn sites(models: &[Model], sources: &[Source]) -> Vec<Reached> {
    let mut found: Vec<Reached> = Vec::new();
    let mut order: Vec<usize> = (0..models.len()).collect();
    order.sort_by_key(|number| models.get(*number).map(|model| model.time));
    for number in order {
        let Some(model) = models.get(number).filter(|model| model.fate == Fate::Passed) else { continue };
        for site in &model.sites {
            let Some(source) = sources.iter().find(|source| source.path == site.at.file) else { continue };
            match found.iter_mut().find(|reached| reached.site == *site) {
                Some(reached) if reached.models.last() != Some(&number) => reached.models.push(number),
                Some(_) => {}
                None => found.push(Reached {
                    site: site.clone(),
                    function: source.function(site.at.line),
                    models: vec![number],
                }),
            }
        }
    }
    found.sort_by(|a, b| a.site.cmp(&b.site));
    found
}

/// Everything that there is to say.
pub(super) fn judge(
    models: &[Model],
    sources: &[Source],
    sites: &[Reached],
    tried: &[Tried],
    reviewed: &mut Reviewed,
) -> Vec<Row> {
    let mut rows = broken(models);
    rows.extend(tried.iter().filter_map(|tried| {
        let reached = sites.get(tried.site)?;
        Some(mutant(models, reached, tried, reviewed))
    }));
    rows.extend(unreached(sources, sites, reviewed));
    rows.extend(sources.iter().flat_map(Source::imports).map(|at| Row {
        site: format!("{}:{}", at.file, at.line),
        ordering: "-".to_owned(),
        mutant: "-".to_owned(),
        verdict: Verdict::Import,
        model: "expected every ordering as `Ordering::Name`".to_owned(),
    }));
    rows.extend(reviewed.stale().map(|(key, line)| Row {
        site: format!("reviewed list, line {line}"),
        ordering: "-".to_owned(),
        mutant: "-".to_owned(),
        verdict: Verdict::Stale,
        model: key.to_owned(),
    }));
    rows
}

fn broken(models: &[Model]) -> Vec<Row> {
    let row = |model: &Model, what: &str| Row {
        site: what.to_owned(),
        ordering: "-".to_owned(),
        mutant: "none".to_owned(),
        verdict: Verdict::Broken,
        model: model.name.clone(),
    };
    let mut rows = Vec::new();
    for model in models {
        match model.fate {
            Fate::Passed => {}
            Fate::Failed => rows.push(row(model, "fails unchanged")),
            Fate::TimedOut => rows.push(row(model, "does not end unchanged")),
            Fate::Refused => rows.push(row(model, "fails unchanged, in the seam")),
            Fate::Broke(status) => rows.push(row(model, &format!("ends unchanged with {status}"))),
        }
        rows.extend(model.unreadable.iter().map(|error| row(model, error)));
    }
    rows
}

fn mutant(models: &[Model], reached: &Reached, tried: &Tried, reviewed: &mut Reviewed) -> Row {
    let Reached { site, function, .. } = reached;
    let name = |model: usize| models.get(model).map_or_else(String::new, |model| model.name.clone());
    let row = |verdict, model| Row {
        site: format!("{}:{} {function} {}", site.at.file, site.at.line, site.kind),
        ordering: site.order.to_string(),
        mutant: tried.to.to_string(),
        verdict,
        model,
    };
    if let Some(model) = tried.killer {
        return row(Verdict::Killed, name(model));
    }
    if let Some((model, error)) = &tried.error {
        return row(Verdict::Error, format!("{}: {error}", name(*model)));
    }
    let mutation = format!("{} {}->{}", site.kind, site.order, tried.to);
    if let Some(reason) = reviewed.survivor(&site.at.file, function, &mutation) {
        return row(Verdict::Reviewed, reason);
    }
    match tried.timed_out {
        Some(model) => row(Verdict::Timeout, name(model)),
        None => row(Verdict::Survived, format!("all {} that reach it pass", reached.models.len())),
    }
}

/// The orderings in the sources that are no recorded site.
fn missed(sources: &[Source], sites: &[Reached]) -> impl Iterator<Item = Occurrence> {
    sources.iter().flat_map(Source::occurrences).filter(|occurrence| {
        let is_it = |site: &Site| site.at == occurrence.at && site.order == occurrence.order;
        !sites.iter().any(|reached| is_it(&reached.site))
    })
}

/// Whether an ordering in the sources is no recorded site.
pub(super) fn misses_any(sources: &[Source], sites: &[Reached]) -> bool {
    missed(sources, sites).next().is_some()
}

fn unreached(sources: &[Source], sites: &[Reached], reviewed: &mut Reviewed) -> Vec<Row> {
    let mut rows = Vec::new();
    for occurrence in missed(sources, sites) {
        let at = &occurrence.at;
        let order = occurrence.order.to_string();
        let reason = reviewed.unreached(&at.file, &occurrence.function, &order);
        let verdict = if reason.is_some() { Verdict::Reviewed } else { Verdict::Unreached };
        rows.push(Row {
            site: format!("{}:{} {}", at.file, at.line, occurrence.function),
            ordering: order,
            mutant: "-".to_owned(),
            verdict,
            model: reason.unwrap_or_else(|| "a new ordering without a model".to_owned()),
        });
    }
    rows
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;
    use std::time::Duration;

    use super::super::site::Order;
    use super::*;

    const FILE: &str = "a/src/b.rs";
    const TEXT: &str = "fn put() {\n  self.tail.store(1, Ordering::Release);\n}\nfn get() {\n  \
                        self.tail.load(Ordering::Acquire);\n}\n";
    const STORE: &str = "a/src/b.rs:2:13 store Release";
    const LOAD: &str = "a/src/b.rs:5:13 load Acquire";

    fn model(name: &str, millis: u64, records: &[&str]) -> Model {
        Model {
            binary: PathBuf::new(),
            name: name.to_owned(),
            time: Duration::from_millis(millis),
            bound: 1,
            fate: Fate::Passed,
            sites: records.iter().map(|record| Site::parse(record).unwrap()).collect(),
            unreadable: Vec::new(),
        }
    }

    fn sources() -> Vec<Source> {
        vec![Source::new(FILE.to_owned(), TEXT)]
    }

    fn killed(site: usize, killer: usize) -> Tried {
        Tried { site, to: Order::Relaxed, killer: Some(killer), timed_out: None, error: None }
    }

    fn unkilled(site: usize) -> Tried {
        Tried { killer: None, ..killed(site, 0) }
    }

    fn verdicts(models: &[Model], tried: &[Tried], list: &str) -> Vec<(Verdict, String)> {
        let sources = sources();
        let sites = sites(models, &sources);
        let mut reviewed = Reviewed::parse(list).unwrap();
        let rows = judge(models, &sources, &sites, tried, &mut reviewed);
        rows.into_iter().map(|row| (row.verdict, row.model)).collect()
    }

    #[test]
    fn all_killed_is_all_there_is_to_say() {
        let models = [model("m", 1, &[STORE, LOAD])];
        let rows = verdicts(&models, &[killed(0, 0), killed(1, 0)], "");
        assert_eq!(rows, [(Verdict::Killed, "m".to_owned()), (Verdict::Killed, "m".to_owned())]);
        assert!(rows.iter().all(|(verdict, _)| !verdict.bad()));
    }

    #[test]
    fn a_planted_survivor_is_bad_unless_reviewed() {
        let models = [model("m", 1, &[STORE, LOAD])];
        let tried =
            [killed(0, 0), Tried { site: 1, to: Order::Relaxed, killer: None, timed_out: None, error: None }];
        let rows = verdicts(&models, &tried, "");
        assert_eq!(rows.last().unwrap().0, Verdict::Survived);
        assert!(rows.last().unwrap().0.bad());

        let rows = verdicts(&models, &tried, "survives a/src/b.rs get load Acquire->Relaxed: why");
        assert_eq!(rows.last().unwrap(), &(Verdict::Reviewed, "why".to_owned()));
    }

    #[test]
    fn an_entry_for_a_mutant_that_is_killed_is_stale() {
        let models = [model("m", 1, &[STORE, LOAD])];
        let entry = "survives a/src/b.rs get load Acquire->Relaxed";
        let rows = verdicts(&models, &[killed(0, 0), killed(1, 0)], &format!("{entry}: why"));
        assert_eq!(rows.last().unwrap(), &(Verdict::Stale, entry.to_owned()));
        assert!(rows.last().unwrap().0.bad());
    }

    #[test]
    fn an_entry_for_another_function_excuses_nothing() {
        let models = [model("m", 1, &[STORE, LOAD])];
        let tried =
            [killed(0, 0), Tried { site: 1, to: Order::Relaxed, killer: None, timed_out: None, error: None }];
        let rows = verdicts(&models, &tried, "survives a/src/b.rs put load Acquire->Relaxed: why");
        let verdicts: Vec<_> = rows.iter().map(|(verdict, _)| *verdict).collect();
        assert_eq!(verdicts, [Verdict::Killed, Verdict::Survived, Verdict::Stale]);
    }

    #[test]
    fn a_new_ordering_without_a_model_is_bad_unless_reviewed() {
        let models = [model("m", 1, &[STORE])];
        let rows = verdicts(&models, &[killed(0, 0)], "");
        assert_eq!(rows.last().unwrap(), &(Verdict::Unreached, "a new ordering without a model".to_owned()));
        assert!(rows.last().unwrap().0.bad());
        let rows = verdicts(&models, &[killed(0, 0)], "unreached a/src/b.rs get Acquire: why");
        assert_eq!(rows.last().unwrap(), &(Verdict::Reviewed, "why".to_owned()));
    }

    #[test]
    fn a_record_of_another_ordering_at_the_place_reaches_nothing() {
        let models = [model("m", 1, &[STORE, "a/src/b.rs:5:13 load SeqCst"])];
        let rows = verdicts(&models, &[killed(0, 0)], "");
        assert_eq!(rows.last().unwrap().0, Verdict::Unreached);
    }

    #[test]
    fn a_mutant_that_hangs_its_models_is_no_kill() {
        let models = [model("m", 1, &[STORE, LOAD])];
        let tried = [
            killed(0, 0),
            Tried { site: 1, to: Order::Relaxed, killer: None, timed_out: Some(0), error: None },
        ];
        let rows = verdicts(&models, &tried, "");
        assert_eq!(rows.last().unwrap(), &(Verdict::Timeout, "m".to_owned()));
        assert!(rows.last().unwrap().0.bad());
    }

    #[test]
    fn a_model_that_ends_as_no_test_ends_is_no_kill_and_no_entry_excuses_it() {
        let models = [model("m", 1, &[STORE, LOAD])];
        let error = Some((0, "signal".to_owned()));
        let tried = [killed(0, 0), Tried { error, ..unkilled(1) }];
        let rows = verdicts(&models, &tried, "survives a/src/b.rs get load Acquire->Relaxed: why");
        assert_eq!(rows[1], (Verdict::Error, "m: signal".to_owned()));
        assert!(rows[1].0.bad());
    }

    #[test]
    fn an_import_of_orderings_is_bad() {
        let text = "use a::Ordering;\nuse a::Ordering::{Acquire};\n";
        let rows = judge(&[], &[Source::new(FILE.to_owned(), text)], &[], &[], &mut Reviewed::default());
        assert_eq!(rows.iter().map(|row| row.verdict).collect::<Vec<_>>(), [Verdict::Import]);
        assert!(Verdict::Import.bad());
    }

    #[test]
    fn a_model_that_fails_unchanged_is_bad_and_kills_nothing() {
        let mut failing = model("failing", 1, &[STORE, LOAD]);
        failing.fate = Fate::Failed;
        failing.unreadable.push("expected x, found y".to_owned());
        let models = [failing, model("sound", 2, &[STORE, LOAD])];
        let reached = sites(&models, &sources());
        assert!(reached.iter().all(|reached| reached.models == [1]));
        let rows = verdicts(&models, &[killed(0, 1), killed(1, 1)], "");
        assert_eq!(rows.iter().filter(|(verdict, _)| *verdict == Verdict::Broken).count(), 2);
    }

    #[test]
    fn sites_outside_of_the_sources_are_not_under_test_and_the_fastest_model_goes_first() {
        let models = [
            model("slow", 9, &[STORE, LOAD, STORE]),
            model("fast", 1, &[STORE, "a/tests/t.rs:1:1 load Acquire"]),
        ];
        let reached = sites(&models, &sources());
        let numbers: Vec<_> = reached.iter().map(|reached| reached.models.clone()).collect();
        assert_eq!(numbers, [vec![1, 0], vec![0]]);
        let functions: Vec<_> = reached.iter().map(|reached| reached.function.as_str()).collect();
        assert_eq!(functions, ["put", "get"]);
    }
}
