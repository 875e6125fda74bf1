//! The files of the repository as the rules see them: lines, and tokens without tests.

use anyhow::Context;
use proc_macro2::{Delimiter, TokenStream, TokenTree};
use std::ops::Range;
use std::path::Path;

/// Folders that hold no source of ours.
const NOT_OURS: &[&str] = &["target"];
/// What assembly files end in.
const ASSEMBLY: &[&str] = &["S", "s", "asm"];

/// In which language a file is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Language {
    /// Rust.
    Rust,
    /// Assembly.
    Assembly,
}

/// A token and its place.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Token {
    /// As it is written; a delimiter is one token when it opens and one when it closes.
    pub text: String,
    /// Counted from 1.
    pub line: usize,
}

/// A file.
#[derive(Clone, Debug)]
pub struct File {
    /// From the repository's root, with `/`.
    pub path: String,
    /// Its language.
    pub language: Language,
    /// How many lines it has.
    pub lines: usize,
    /// How many of them belong to tests.
    pub test_lines: usize,
    /// How many of the others are empty or only a comment.
    pub remarks: usize,
    /// The tokens outside of tests; none if it is assembly.
    pub tokens: Vec<Token>,
    /// Why it could not be read as Rust.
    pub unreadable: Option<String>,
    /// The modules in files of their own that it declares for tests.
    test_modules: Vec<String>,
}

/// Every Rust and assembly file below `root`, in order.
///
/// # Errors
/// Those of the file system.
pub fn files(root: &Path) -> anyhow::Result<Vec<File>> {
    let mut files = Vec::new();
    collect(root, root, &mut files)?;
    files.sort_by(|one, other| one.path.cmp(&other.path));
    mark_test_modules(&mut files);
    Ok(files)
}

fn collect(root: &Path, folder: &Path, files: &mut Vec<File>) -> anyhow::Result<()> {
    for entry in std::fs::read_dir(folder).with_context(|| format!("reading {}", folder.display()))? {
        let path = entry?.path();
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        if name.starts_with('.') || path.is_symlink() {
            continue;
        }
        if path.is_dir() {
            if !NOT_OURS.contains(&name.as_str()) {
                collect(root, &path, files)?;
            }
            continue;
        }
        if let Some(language) = language(&name) {
            let text = std::fs::read_to_string(&path).with_context(|| format!("reading {}", path.display()))?;
            let path = path.strip_prefix(root)?.to_string_lossy().replace('\\', "/");
            files.push(File::read(&path, language, &text));
        }
    }
    Ok(())
}

fn language(name: &str) -> Option<Language> {
    match name.rsplit_once('.')? {
        (_, "rs") => Some(Language::Rust),
        (_, ending) if ASSEMBLY.contains(&ending) => Some(Language::Assembly),
        _ => None,
    }
}

impl File {
    /// A file with that text.
    #[must_use]
    pub fn read(path: &str, language: Language, text: &str) -> Self {
        let lines = text.lines().count();
        let remarks: Vec<bool> = text.lines().map(|line| is_remark(line, language)).collect();
        let mut file = Self {
            path: path.to_owned(),
            language,
            lines,
            test_lines: 0,
            remarks: remarks.iter().filter(|remark| **remark).count(),
            tokens: Vec::new(),
            unreadable: None,
            test_modules: Vec::new(),
        };
        if language == Language::Assembly {
            return file;
        }
        let mut tokens = Vec::new();
        match text.parse::<TokenStream>() {
            Ok(stream) => flatten(stream, &mut tokens),
            Err(error) => file.unreadable = Some(error.to_string()),
        }
        if is_test_file(path) {
            file.make_test();
            return file;
        }
        for range in test_items(&tokens).into_iter().rev() {
            if let [.., keyword, name, end] = &tokens[range.clone()]
                && (keyword.text.as_str(), end.text.as_str()) == ("mod", ";")
            {
                file.test_modules.push(module_file(path, &name.text));
            }
            let (first, last) = (tokens[range.start].line, tokens[range.end - 1].line);
            file.test_lines += last + 1 - first;
            file.remarks -= remarks[first - 1..last].iter().filter(|remark| **remark).count();
            tokens.drain(range);
        }
        file.tokens = tokens;
        file
    }

    /// All of it belongs to tests.
    fn make_test(&mut self) {
        (self.test_lines, self.remarks) = (self.lines, 0);
        self.tokens.clear();
    }
}

/// Whether a line says nothing to the compiler.
fn is_remark(line: &str, language: Language) -> bool {
    let comment = match language {
        Language::Rust => "//",
        Language::Assembly => "#",
    };
    let line = line.trim_start();
    line.is_empty() || line.starts_with(comment)
}

/// Makes tests of the files that others declare as modules for tests.
fn mark_test_modules(files: &mut [File]) {
    let modules: Vec<String> = files.iter().flat_map(|file| file.test_modules.clone()).collect();
    for file in files.iter_mut().filter(|file| modules.contains(&file.path)) {
        file.make_test();
    }
}

/// The file of the module `name` that the file at `path` declares.
fn module_file(path: &str, name: &str) -> String {
    let (folder, file) = path.rsplit_once('/').unwrap_or((".", path));
    match file {
        "lib.rs" | "main.rs" | "mod.rs" => format!("{folder}/{name}.rs"),
        _ => format!("{}/{name}.rs", path.trim_end_matches(".rs")),
    }
}

/// A file of tests by its name: `tests.rs`, `pit_tests.rs`, or in a folder `tests` of a crate.
fn is_test_file(path: &str) -> bool {
    let name = path.rsplit('/').next().unwrap_or(path);
    name == "tests.rs" || name.ends_with("_tests.rs") || path.contains("/tests/")
}

fn flatten(stream: TokenStream, tokens: &mut Vec<Token>) {
    for tree in stream {
        let line = tree.span().start().line;
        let text = match tree {
            TokenTree::Group(group) => {
                let (open, close) = match group.delimiter() {
                    Delimiter::Parenthesis => ("(", ")"),
                    Delimiter::Brace => ("{", "}"),
                    Delimiter::Bracket => ("[", "]"),
                    Delimiter::None => ("", ""),
                };
                tokens.push(Token { text: open.to_owned(), line });
                flatten(group.stream(), tokens);
                tokens.push(Token { text: close.to_owned(), line: group.span_close().end().line });
                continue;
            }
            TokenTree::Ident(ident) => ident.to_string(),
            TokenTree::Punct(punct) => punct.as_char().to_string(),
            TokenTree::Literal(literal) => literal.to_string(),
        };
        tokens.push(Token { text, line });
    }
}

/// The items under `#[cfg(test)]`, each from its attribute to its end.
fn test_items(tokens: &[Token]) -> Vec<Range<usize>> {
    const ATTRIBUTE: [&str; 7] = ["#", "[", "cfg", "(", "test", ")", "]"];
    let mut items: Vec<Range<usize>> = Vec::new();
    for start in 0..tokens.len().saturating_sub(ATTRIBUTE.len()) {
        let inside = items.last().is_some_and(|item| item.contains(&start));
        if !inside && is_at(tokens, start, &ATTRIBUTE) {
            items.push(start..item_end(tokens, start + ATTRIBUTE.len()));
        }
    }
    items
}

/// One past the item that begins at `start`: past its braces, or its semicolon.
fn item_end(tokens: &[Token], start: usize) -> usize {
    let mut depth = 0usize;
    for (index, token) in tokens.iter().enumerate().skip(start) {
        match token.text.as_str() {
            "{" | "(" | "[" => depth += 1,
            "}" | ")" | "]" => {
                depth = depth.saturating_sub(1);
                if depth == 0 && token.text == "}" {
                    return index + 1;
                }
            }
            ";" if depth == 0 => return index + 1,
            _ => {}
        }
    }
    tokens.len()
}

/// Whether the tokens from `start` on are these.
#[must_use]
pub fn is_at(tokens: &[Token], start: usize, texts: &[&str]) -> bool {
    tokens
        .get(start..start + texts.len())
        .is_some_and(|found| found.iter().zip(texts).all(|(one, text)| one.text == *text))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn texts(source: &str) -> String {
        let file = File::read("a/src/b.rs", Language::Rust, source);
        file.tokens.iter().map(|token| token.text.as_str()).collect::<Vec<_>>().join(" ")
    }

    #[test]
    fn comments_and_strings_are_no_tokens_of_code() {
        assert_eq!(texts("// unsafe\n/* todo!() */ let a = b;"), "let a = b ;");
        assert!(!texts("fn f() { g(\"static mut\") }").split(' ').any(|token| token == "static"));
    }

    #[test]
    fn what_is_under_cfg_test_is_left_out_and_counted() {
        let source = "fn a() {}\n#[cfg(test)]\nmod tests {\n    // c\n    fn b() { c(); }\n}\n\n// d\nfn d() {} // d\n#[cfg(test)]\nmod e;\n";
        let file = File::read("a/src/b.rs", Language::Rust, source);
        assert_eq!((file.lines, file.test_lines, file.remarks), (11, 7, 2));
        assert_eq!(texts(source), "fn a ( ) { } fn d ( ) { }");
        assert_eq!(file.tokens[6].line, 9);
    }

    #[test]
    fn a_file_of_tests_is_all_tests() {
        for path in ["a/src/tests.rs", "a/src/pit_tests.rs", "a/src/b/tests/c.rs"] {
            let file = File::read(path, Language::Rust, "fn a() {\n}\n");
            assert_eq!((file.test_lines, file.tokens.len()), (2, 0), "{path}");
        }
        assert_eq!(File::read("tests/guests/touch/main.rs", Language::Rust, "fn a() {}").test_lines, 0);
    }

    #[test]
    fn a_module_declared_for_tests_is_all_tests_whatever_its_name() {
        let source = "#[cfg(test)]\npub mod testing;\nmod vm;\n";
        for (parent, module) in [("a/src/lib.rs", "a/src/testing.rs"), ("a/src/b.rs", "a/src/b/testing.rs")] {
            let mut files = [parent, module, "a/src/vm.rs"].map(|path| File::read(path, Language::Rust, "fn a() {}\n"));
            files[0] = File::read(parent, Language::Rust, source);
            mark_test_modules(&mut files);
            assert_eq!(files.map(|file| file.lines - file.test_lines), [1, 0, 1], "{parent}");
        }
    }
}
