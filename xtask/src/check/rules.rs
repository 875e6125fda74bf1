//! The house's rules.

use super::source::{File, Language, Token, is_at};
use std::fmt;

/// A file is one noun and fits in one reading.
const FILE_LINES: usize = 400;
/// The kernel fits in one reading: lines of Rust and assembly without tests. Lines that are empty or only a comment are not
/// counted, as nobody does who says how large a kernel is: what is explained must not cost.
pub const KERNEL_LINES: usize = 6000;
/// The kernel's folder.
const KERNEL: &str = "ukernel/src/";

/// Where unsafe code may be, and why.
const UNSAFE: &[(&str, &str)] = &[
    ("ukernel/src/arch/", "the kernel's only door to the CPU"),
    ("servers/rt/", "a server's only door to the kernel"),
    ("tests/guests/", "a guest owns its machine"),
    ("tests/rogue/", "a server that tries what it may not"),
    ("tests/scripted/src/forbidden", "another that does"),
    ("tests/peers/", "what others build is measured as they offer it"),
    ("tests/stopwatch/", "a mark for the debugger is an instruction"),
];
/// Where code may depend on the architecture.
const ARCHITECTURE: &[&str] = &["ukernel/src/arch/"];
/// Where a guest or a server could stop the kernel, or whoever speaks the protocol, by an `unwrap`.
const NEVER_PANICS: &[&str] = &[KERNEL, "ipc-proto/src/"];

/// A rule that is broken somewhere.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Violation {
    path: String,
    line: usize,
    rule: &'static str,
    what: String,
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}: {}: {}", self.path, self.line, self.rule, self.what)
    }
}

/// A rule about tokens: the text that breaks it at a place, if it does.
struct Rule {
    name: &'static str,
    applies: fn(&str) -> bool,
    breaks: fn(&[Token], usize) -> Option<String>,
}

const RULES: &[Rule] = &[
    Rule {
        name: "unsafe-door",
        applies: |path| !begins(path, UNSAFE.iter().map(|(folder, _)| *folder)),
        breaks: unsafe_code,
    },
    Rule { name: "no-static-mut", applies: |_| true, breaks: static_mut },
    Rule { name: "nothing-unfinished", applies: |_| true, breaks: unfinished },
    Rule {
        name: "one-architecture-folder",
        applies: |path| !begins(path, ARCHITECTURE.iter().copied()),
        breaks: architecture,
    },
    Rule { name: "never-panics", applies: |path| begins(path, NEVER_PANICS.iter().copied()), breaks: panics },
];

fn begins<'a>(path: &str, mut folders: impl Iterator<Item = &'a str>) -> bool {
    folders.any(|folder| path.starts_with(folder))
}

/// Every violation, in the order of files and lines.
#[must_use]
pub fn violations(files: &[File]) -> Vec<Violation> {
    let mut all: Vec<Violation> = files.iter().flat_map(in_file).collect();
    let kernel = kernel_lines(files);
    if kernel > KERNEL_LINES {
        let what = format!("{kernel} lines of code without tests, {KERNEL_LINES} at most");
        all.push(Violation { path: KERNEL.to_owned(), line: 0, rule: "small-kernel", what });
    }
    all
}

/// How many lines the kernel has, without tests.
#[must_use]
pub fn kernel_lines(files: &[File]) -> usize {
    let kernel = files.iter().filter(|file| file.path.starts_with(KERNEL));
    kernel.map(|file| file.lines - file.test_lines - file.remarks).sum()
}

fn in_file(file: &File) -> Vec<Violation> {
    let violation = |line, rule, what| Violation { path: file.path.clone(), line, rule, what };
    let mut found = Vec::new();
    if file.lines > FILE_LINES {
        found.push(violation(file.lines, "one-noun-a-file", format!("{} lines, {FILE_LINES} at most", file.lines)));
    }
    if let Some(why) = &file.unreadable {
        found.push(violation(1, "readable", format!("not Rust: {why}")));
    }
    if file.language == Language::Assembly
        && begins(&file.path, [KERNEL].into_iter())
        && !file.path.starts_with(ARCHITECTURE[0])
    {
        found.push(violation(1, "one-architecture-folder", "assembly".to_owned()));
    }
    for (index, token) in file.tokens.iter().enumerate() {
        let broken = RULES.iter().filter(|rule| (rule.applies)(&file.path));
        found.extend(
            broken.filter_map(|rule| Some(violation(token.line, rule.name, (rule.breaks)(&file.tokens, index)?))),
        );
    }
    found
}

fn unsafe_code(tokens: &[Token], at: usize) -> Option<String> {
    (tokens[at].text == "unsafe").then(|| "unsafe code has its own folders".to_owned())
}

fn static_mut(tokens: &[Token], at: usize) -> Option<String> {
    // Not the lifetime of `&'static mut`.
    let lifetime = at > 0 && tokens[at - 1].text == "'";
    let found = !lifetime && is_at(tokens, at, &["static", "mut"]);
    found.then(|| "state is passed in, or shared by a type that makes that safe".to_owned())
}

fn unfinished(tokens: &[Token], at: usize) -> Option<String> {
    let name = ["todo", "unimplemented", "dbg"].into_iter().find(|name| is_at(tokens, at, &[name, "!"]))?;
    Some(format!("{name}!"))
}

fn architecture(tokens: &[Token], at: usize) -> Option<String> {
    (tokens[at].text == "target_arch").then(|| "only an architecture's folder may depend on it".to_owned())
}

fn panics(tokens: &[Token], at: usize) -> Option<String> {
    let name = ["unwrap", "expect"].into_iter().find(|name| is_at(tokens, at, &[".", name, "("]))?;
    Some(format!(".{name}(): an error stops whoever made it, never the kernel"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rules_broken(path: &str, source: &str) -> Vec<String> {
        let language = if path.ends_with(".rs") { Language::Rust } else { Language::Assembly };
        violations(&[File::read(path, language, source)]).iter().map(ToString::to_string).collect()
    }

    fn breaks(path: &str, source: &str, expected: &str) {
        let found = rules_broken(path, source);
        assert!(found.iter().any(|line| line.starts_with(expected)), "{path}: {source}: {found:?}");
    }

    fn keeps(path: &str, source: &str) {
        assert_eq!(rules_broken(path, source), Vec::<String>::new(), "{path}: {source}");
    }

    #[test]
    fn unsafe_code_only_behind_the_doors() {
        breaks("ukernel/src/core.rs", "fn a() {\n    unsafe { b() }\n}", "ukernel/src/core.rs:2: unsafe-door: ");
        breaks("servers/vcpu/src/pic.rs", "#[unsafe(no_mangle)] fn a() {}", "servers/vcpu/src/pic.rs:1: unsafe-door: ");
        for (folder, _) in UNSAFE {
            keeps(&format!("{folder}a.rs"), "fn a() { unsafe { b() } }");
        }
        keeps("servers/vcpu/src/lib.rs", "#![forbid(unsafe_code)] // no unsafe here");
    }

    #[test]
    fn no_static_mut_anywhere() {
        breaks("xtask/src/a.rs", "static mut A: u8 = 0;", "xtask/src/a.rs:1: no-static-mut: ");
        breaks("ukernel/src/arch/x86/a.rs", "static mut A: u8 = 0;", "ukernel/src/arch/x86/a.rs:1: no-static-mut: ");
        keeps("xtask/src/a.rs", "static A: u8 = 0; fn b(c: &'static mut u8) {}");
    }

    #[test]
    fn nothing_is_left_unfinished() {
        for name in ["todo", "unimplemented", "dbg"] {
            breaks(
                "tests/guests/a.rs",
                &format!("fn a() {{ {name}!() }}"),
                "tests/guests/a.rs:1: nothing-unfinished: ",
            );
        }
        keeps("xtask/src/a.rs", "fn todo() { dbg(); }");
    }

    #[test]
    fn the_architecture_has_one_folder() {
        breaks("ukernel/src/vm.rs", "#[cfg(target_arch = \"x86_64\")] fn a() {}", "ukernel/src/vm.rs:1: one-arch");
        breaks("ukernel/src/run.S", "ret\n", "ukernel/src/run.S:1: one-arch");
        keeps("ukernel/src/arch/mod.rs", "#[cfg(target_arch = \"x86_64\")] mod x86;");
        keeps("ukernel/src/arch/x86/run.S", "ret\n");
        keeps("servers/rt/src/lib.rs", "#[cfg(target_os = \"none\")] mod call;");
    }

    #[test]
    fn kernel_and_protocol_never_panic_on_a_value() {
        breaks("ukernel/src/vm.rs", "fn a() { b.unwrap() }", "ukernel/src/vm.rs:1: never-panics: .unwrap()");
        breaks(
            "ipc-proto/src/wire.rs",
            "fn a() {\n b()\n.expect(\"c\") }",
            "ipc-proto/src/wire.rs:3: never-panics: .expect()",
        );
        keeps("ipc-proto/src/wire.rs", "#[expect(missing_docs)] fn a() { b.unwrap_or(0) }");
        keeps("ipc-proto/src/wire.rs", "#[cfg(test)]\nmod tests { fn a() { b.unwrap() } }");
        keeps("ukernel/src/vm_tests.rs", "fn a() { b.unwrap() }");
        keeps("xtask/src/a.rs", "fn a() { b.unwrap() }");
    }

    #[test]
    fn a_file_fits_in_one_reading_with_its_tests() {
        let long = "// a line\n".repeat(FILE_LINES + 1);
        for path in ["xtask/src/a.rs", "xtask/src/tests.rs", "ukernel/src/arch/x86/run.S"] {
            breaks(path, &long, &format!("{path}:401: one-noun-a-file: 401 lines, 400 at most"));
        }
        keeps("xtask/src/a.rs", &"// a line\n".repeat(FILE_LINES));
    }

    #[test]
    fn the_kernel_is_small_and_tests_do_not_count() {
        let file = |path: &str, lines| File::read(path, Language::Rust, &"use a; // a line\n".repeat(lines));
        let mut files: Vec<File> = (0..15).map(|n| file(&format!("ukernel/src/a{n}.rs"), FILE_LINES)).collect();
        assert_eq!((kernel_lines(&files), violations(&files).len()), (KERNEL_LINES, 0));
        files.push(file("ukernel/src/a_tests.rs", 10));
        files.push(file("servers/rt/src/a.rs", 10));
        files.push(File::read("ukernel/src/c.rs", Language::Rust, "// a remark\n\n"));
        assert_eq!(violations(&files), []);
        files.push(file("ukernel/src/b.rs", 1));
        assert_eq!(violations(&files).iter().map(|broken| broken.rule).collect::<Vec<_>>(), ["small-kernel"]);
    }

    #[test]
    fn what_is_no_rust_is_told() {
        breaks("xtask/src/a.rs", "fn a( {", "xtask/src/a.rs:1: readable: ");
    }
}
