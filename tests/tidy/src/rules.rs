//! The rules, each with the counts of what it has checked.

use std::{fmt::Write as _, fs, path::PathBuf};

use anyhow::Context as _;

use crate::{
    Finding, SourceFile, arrows,
    circles::{self, Graph},
    figures, habits, ledger, licences, mutations, outcomes,
    owners::{self, items::Items},
    readme,
    source::PACKAGES,
    ways, words, workspace_dir, workspace_sources,
};

/// The repository as the rules see it.
#[derive(Debug)]
pub struct Workspace {
    /// Top of the repository.
    pub top: PathBuf,
    /// Rust files, generated ones left out.
    pub sources: Vec<SourceFile>,
    /// Declarations of the product.
    pub items: Items,
}

impl Workspace {
    /// Reads the sources of the repository that this package is part of.
    ///
    /// # Errors
    ///
    /// When a file or folder cannot be read, or a file is not valid Rust.
    pub fn read() -> anyhow::Result<Self> {
        let sources = workspace_sources()?;
        Ok(Self { top: workspace_dir(), items: Items::of(&sources)?, sources })
    }

    /// Returns the pages, which are all Markdown files, with their paths.
    fn pages(&self) -> anyhow::Result<Vec<(String, String)>> {
        let mut pages = words::texts(&self.top)?;
        pages.retain(|(path, _)| path.ends_with(".md"));
        Ok(pages)
    }
}

/// Result of one rule.
#[derive(Debug, Default)]
pub struct Checked {
    /// Numbers of the things that were checked.
    pub counts: String,
    /// Places that break the rule.
    pub findings: Vec<Finding>,
    /// Places that the rule counts and permits.
    pub counted: Vec<String>,
}

/// A rule: it checks the whole repository.
///
/// It fails when a file of the repository cannot be read.
pub type Rule = fn(&Workspace) -> anyhow::Result<Checked>;

/// All rules, by the sentences that they check.
pub const RULES: [(&str, Rule); 21] = [
    ("modules inside proto follow the arrows", modules_inside_proto_follow_the_arrows),
    ("programs do not know one another", programs_do_not_know_one_another),
    ("only shells touch the machine", only_shells_touch_the_machine),
    ("cores do not reach up to their shells", cores_do_not_reach_up_to_their_shells),
    ("flute and dm meet in arming and agent alone", flute_and_dm_meet_in_arming_and_agent_alone),
    ("crates behind a door stay there", crates_behind_a_door_stay_there),
    ("files do not import in circles", files_do_not_import_in_circles),
    ("an impl stands in its type's file", an_impl_stands_in_its_types_file),
    ("structs have few fields", structs_have_few_fields),
    ("fields are touched in their own file", fields_are_touched_in_their_own_file),
    ("files are short and named after modules", files_are_short_and_named_after_modules),
    ("nothing unwraps, nothing is left undone", nothing_unwraps_and_nothing_is_left_undone),
    ("banned words are not used", banned_words_are_not_used),
    ("doc comments begin with a noun or a verb", doc_comments_begin_with_a_noun_or_a_verb),
    ("claims have a rule, a test and a line", claims_have_a_rule_a_test_and_a_line),
    ("threats have a patch and a test", threats_have_a_patch_and_a_test),
    ("pages name what exists", pages_name_what_exists),
    ("the page of results has each of them", the_page_of_results_has_each_of_them),
    ("figures on pages are those of the sources", figures_on_pages_are_those_of_the_sources),
    ("crates have their licence texts", crates_have_their_licence_texts),
    ("the steps of a way lie in few files", the_steps_of_a_way_lie_in_few_files),
];

fn the_steps_of_a_way_lie_in_few_files(workspace: &Workspace) -> anyhow::Result<Checked> {
    let mut checked = Checked::default();
    let mut counts = Vec::new();
    for way in ways::WAYS {
        let (files, findings) = way.check(&workspace.sources);
        counts.push(format!("{}: {files} files listed", way.heading.trim_start_matches("# ")));
        checked.findings.extend(findings);
    }
    Ok(Checked { counts: counts.join(", "), ..checked })
}

fn modules_inside_proto_follow_the_arrows(workspace: &Workspace) -> anyhow::Result<Checked> {
    let files = workspace.sources.iter().filter(|file| file.package() == "proto").count();
    let findings = arrows::inside_proto(&workspace.sources);
    Ok(Checked { counts: format!("{files} files"), findings, ..Checked::default() })
}

fn programs_do_not_know_one_another(workspace: &Workspace) -> anyhow::Result<Checked> {
    let mut findings = arrows::between_packages(&workspace.sources);
    for package in PACKAGES {
        let path = workspace.top.join(package).join("Cargo.toml");
        let manifest = fs::read_to_string(&path).with_context(|| path.display().to_string())?;
        findings.extend(arrows::dependencies(package, &manifest));
    }
    Ok(Checked { counts: format!("{} packages", PACKAGES.len()), findings, ..Checked::default() })
}

fn only_shells_touch_the_machine(workspace: &Workspace) -> anyhow::Result<Checked> {
    let findings = arrows::machine(&workspace.sources);
    Ok(Checked { counts: files(workspace), findings, ..Checked::default() })
}

fn cores_do_not_reach_up_to_their_shells(workspace: &Workspace) -> anyhow::Result<Checked> {
    let findings = arrows::cores_below_shells(&workspace.sources);
    Ok(Checked { counts: files(workspace), findings, ..Checked::default() })
}

fn flute_and_dm_meet_in_arming_and_agent_alone(workspace: &Workspace) -> anyhow::Result<Checked> {
    let findings = arrows::flute_and_dm(&workspace.sources);
    Ok(Checked { counts: files(workspace), findings, ..Checked::default() })
}

fn crates_behind_a_door_stay_there(workspace: &Workspace) -> anyhow::Result<Checked> {
    let findings = arrows::fences(&workspace.sources);
    Ok(Checked { counts: files(workspace), findings, ..Checked::default() })
}

fn files_do_not_import_in_circles(workspace: &Workspace) -> anyhow::Result<Checked> {
    let graph = Graph::of(&workspace.sources);
    let counts = format!("{} imports", graph.edges());
    Ok(Checked { counts, findings: circles::circles(&graph), ..Checked::default() })
}

fn an_impl_stands_in_its_types_file(workspace: &Workspace) -> anyhow::Result<Checked> {
    let items = &workspace.items;
    let counts = format!("{} inherent impls", items.impls.len());
    Ok(Checked { counts, findings: owners::impls_elsewhere(items), ..Checked::default() })
}

fn structs_have_few_fields(workspace: &Workspace) -> anyhow::Result<Checked> {
    let items = &workspace.items;
    let counts = format!(
        "{} structs of the product, {} fields at most; plain rows with more: {}",
        items.structs.len(),
        owners::MAX_FIELDS,
        owners::large_rows(items).join(", "),
    );
    Ok(Checked { counts, findings: owners::too_many_fields(items), ..Checked::default() })
}

fn fields_are_touched_in_their_own_file(workspace: &Workspace) -> anyhow::Result<Checked> {
    let items = &workspace.items;
    let pairs = owners::foreign_pairs(items);
    let mut counts = format!("{} pairs, {} at most", pairs.len(), owners::MAX_FOREIGN_PAIRS);
    let records = owners::record_reads(items);
    write!(counts, "; {records} pairs read a record").ok();
    let mut findings = Vec::new();
    if pairs.len() > owners::MAX_FOREIGN_PAIRS {
        findings.push(Finding::new("", 0, format!("{counts}: move the code to the owner")));
    }
    let counted = pairs.iter().map(ToString::to_string).collect();
    Ok(Checked { counts, findings, counted })
}

fn files_are_short_and_named_after_modules(workspace: &Workspace) -> anyhow::Result<Checked> {
    let mut findings = habits::length(&workspace.sources);
    findings.extend(habits::layout(&workspace.sources));
    let lengths = workspace.sources.iter().map(|file| file.text.lines().count());
    let longest = lengths.max().unwrap_or_default();
    Ok(Checked {
        counts: format!("{}, the longest has {longest} lines", files(workspace)),
        findings,
        ..Checked::default()
    })
}

fn nothing_unwraps_and_nothing_is_left_undone(workspace: &Workspace) -> anyhow::Result<Checked> {
    Ok(Checked {
        counts: files(workspace),
        findings: habits::finished(&workspace.sources),
        ..Checked::default()
    })
}

fn banned_words_are_not_used(workspace: &Workspace) -> anyhow::Result<Checked> {
    let texts = words::texts(&workspace.top)?;
    let findings = words::banned(&texts, &words::EXCEPTIONS);
    let counts = format!("{} texts, {} exceptions", texts.len(), words::EXCEPTIONS.len());
    Ok(Checked { counts, findings, ..Checked::default() })
}

fn doc_comments_begin_with_a_noun_or_a_verb(workspace: &Workspace) -> anyhow::Result<Checked> {
    let (count, findings) = words::openings(&workspace.sources);
    Ok(Checked { counts: format!("{count} doc comments"), findings, ..Checked::default() })
}

fn claims_have_a_rule_a_test_and_a_line(workspace: &Workspace) -> anyhow::Result<Checked> {
    let ledgers = ledger::ledgers(&workspace.top.join("tests/conformance"))?;
    let mut findings = ledger::matched(&workspace.sources, &ledgers);
    findings.extend(ledger::counted(&ledgers));
    let claims: usize = ledgers.values().map(|ledger| ledger.rule.len()).sum();
    Ok(Checked {
        counts: format!("{} standards, {claims} claims", ledgers.len()),
        findings,
        ..Checked::default()
    })
}

fn threats_have_a_patch_and_a_test(workspace: &Workspace) -> anyhow::Result<Checked> {
    let table = mutations::table()?;
    let counts = format!("{} threats, {} patches", table.rows.len(), table.mutation.len());
    Ok(Checked {
        counts,
        findings: mutations::findings(&table, &workspace.sources)?,
        ..Checked::default()
    })
}

fn pages_name_what_exists(workspace: &Workspace) -> anyhow::Result<Checked> {
    let mut findings = Vec::new();
    let pages = workspace.pages()?;
    for (path, text) in &pages {
        findings.extend(readme::paths(path, text, &workspace.top));
        findings.extend(readme::links(path, text, &workspace.top));
        findings.extend(readme::invariants(path, text, &workspace.sources));
    }
    let front_page = pages.iter().find(|(path, _)| path == readme::FRONT_PAGE);
    let front_page = front_page.map_or(0, |(_, text)| text.len());
    findings.extend(readme::front_page(front_page));
    let counts = format!("{} pages, front page {front_page} bytes", pages.len());
    Ok(Checked { counts, findings, ..Checked::default() })
}

fn the_page_of_results_has_each_of_them(workspace: &Workspace) -> anyhow::Result<Checked> {
    let path = workspace.top.join(outcomes::PAGE);
    let page = fs::read_to_string(&path).with_context(|| path.display().to_string())?;
    let (rows, findings) = outcomes::check(&page, &workspace.sources);
    Ok(Checked { counts: format!("{rows} rows"), findings, ..Checked::default() })
}

fn figures_on_pages_are_those_of_the_sources(workspace: &Workspace) -> anyhow::Result<Checked> {
    let findings = figures::check(&workspace.top, &workspace.sources)?;
    let counts = format!("{} figures", figures::FIGURES.len());
    Ok(Checked { counts, findings, ..Checked::default() })
}

fn crates_have_their_licence_texts(workspace: &Workspace) -> anyhow::Result<Checked> {
    let counts = format!("{} crates", licences::packaged().count());
    Ok(Checked { counts, findings: licences::check(&workspace.top), ..Checked::default() })
}

fn files(workspace: &Workspace) -> String {
    format!("{} files", workspace.sources.len())
}
