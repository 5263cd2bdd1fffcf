//! The documents and the commands must not drift apart.

use super::*;

const DOCUMENTS: [&str; 2] = ["README.md", "CONTRIBUTING.md"];

fn read(document: &str) -> String {
    std::fs::read_to_string(process::root().join(document)).expect("the document is there")
}

/// Lines of code blocks that hold commands, without their prompt.
fn commands(document: &str) -> Vec<String> {
    let text = read(document);
    let mut in_block = false;
    let mut commands = Vec::new();
    for line in text.lines() {
        match line.strip_prefix("```") {
            Some(language) => in_block = !in_block && matches!(language, "sh" | "console"),
            None if in_block => commands.push(line.trim_start_matches("$ ").to_owned()),
            None => {}
        }
    }
    commands
}

/// Parses a command as `main` would, without running it.
fn parses(task: &str, words: &[&str]) -> bool {
    let mut arguments = lexopt::Parser::from_args(words);
    match task {
        "test" => test_options(&mut arguments).is_ok(),
        "bench" => bench_options(&mut arguments).is_ok(),
        "fuzz" => fuzz_options(&mut arguments).is_ok(),
        // The lab's own program reads the rest.
        "lab" | "faults" => true,
        "images" => images_options(&mut arguments).is_ok(),
        "up" => up_options(&mut arguments).is_ok(),
        "cluster" => harm_options(&mut arguments).is_ok(),
        "chart" | "down" => no_options(&mut arguments).is_ok(),
        "kubectl" | "helm" => true,
        _ => false,
    }
}

#[test]
fn every_task_a_document_shows_is_understood() {
    for document in DOCUMENTS {
        let tasks: Vec<_> = commands(document)
            .into_iter()
            .filter_map(|command| command.strip_prefix("cargo xtask ").map(str::to_owned))
            .collect();
        assert!(!tasks.is_empty(), "{document} shows no task");
        for task in tasks {
            let without_comment = task.split('#').next().expect("split gives at least one");
            let words: Vec<_> = without_comment.split_whitespace().collect();
            assert!(parses(words[0], &words[1..]), "{document}: cargo xtask {task}");
        }
    }
}

#[test]
fn the_readme_starts_with_standalone_and_then_the_tests() {
    let commands = commands("README.md");
    let first_two: Vec<_> = commands.iter().filter(|line| line.starts_with("cargo ")).take(2).collect();
    assert_eq!(first_two, ["cargo run --release -- standalone", "cargo xtask test --fast"]);
}

#[test]
fn ci_runs_the_documented_command_and_nothing_after_it() {
    let script = read(".ci/run");
    assert_eq!(script.lines().last(), Some("exec cargo xtask test --fast"));
}

/// The `file: name` references of a line to tests.
fn test_references(line: &str) -> Vec<(&str, &str)> {
    let spans = line.split('`').skip(1).step_by(2);
    spans.filter_map(|span| span.split_once(": ")).filter(|(file, _)| file.ends_with(".rs")).collect()
}

#[test]
fn every_test_that_the_weaknesses_name_exists() {
    let page = read("docs/weaknesses.md");
    let rows = page.lines().filter(|line| line.starts_with("| ") && !line.ends_with("| Shown by |"));
    let mut references = 0;
    for row in rows {
        let tests = test_references(row);
        assert!(!tests.is_empty() || row.contains("comes with Redis"), "nothing shows this: {row}");
        for (file, name) in &tests {
            let source = read(file);
            let is_there =
                [format!("fn {name}("), format!("fn {name}<")].iter().any(|head| source.contains(head));
            assert!(is_there, "docs/weaknesses.md: {file} has no test {name}");
        }
        references += tests.len();
    }
    assert!(references >= 100, "only {references} references were found: has their form changed?");
}
