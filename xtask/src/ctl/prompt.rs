//! The prompt: lines are edited, remembered and completed. What there is to complete comes from the system's own `help`.

use super::{Asked, ERROR};
use crate::status::Status;
use rustyline::completion::{Completer, Pair};
use rustyline::error::ReadlineError;
use rustyline::highlight::Highlighter;
use rustyline::hint::Hinter;
use rustyline::validate::Validator;
use rustyline::{Context, Editor, Helper};

/// Asks what is typed until the end of the input.
///
/// # Errors
/// The system has ended; a terminal that cannot be used.
pub fn run(asked: &mut Asked, name: &str) -> anyhow::Result<Status> {
    let mut forms = Vec::new();
    if let Err(why) = asked.ask("help", |line| forms.push(Form::read(line)))? {
        anyhow::bail!("{name} does not say what can be asked: {why}");
    }
    let mut editor = Editor::<Forms, rustyline::history::DefaultHistory>::new()?;
    editor.set_helper(Some(Forms(forms)));
    println!("{name}: `help` lists what can be asked, Tab completes, Ctrl-D leaves");
    loop {
        match editor.readline(&format!("{name}> ")) {
            Ok(line) if line.trim().is_empty() => {}
            Ok(line) => {
                editor.add_history_entry(line.trim())?;
                if let Err(why) = asked.ask(line.trim(), |line| println!("{line}"))? {
                    println!("{ERROR}{why}");
                }
            }
            Err(ReadlineError::Interrupted) => {}
            Err(ReadlineError::Eof) => return Ok(Status::Done),
            Err(error) => return Err(error.into()),
        }
    }
}

/// What a request may look like: the words of a line of `help`.
struct Form {
    words: Vec<String>,
    about: String,
}

impl Form {
    fn read(line: &str) -> Self {
        let (form, about) = line.split_once(": ").unwrap_or((line, ""));
        Self { words: form.split_whitespace().map(str::to_owned).collect(), about: about.to_owned() }
    }

    /// What may be word `place` of a request that begins with `before`: nothing when the form is another one.
    fn choices(&self, before: &[&str]) -> Vec<&str> {
        let fits = |(word, form): (&&str, &String)| !is_fixed(form) || form.split('|').any(|choice| choice == *word);
        if before.len() >= self.words.len() || !before.iter().zip(&self.words).all(fits) {
            return Vec::new();
        }
        let next = &self.words[before.len()];
        if is_fixed(next) { next.split('|').filter(|choice| is_fixed(choice)).collect() } else { Vec::new() }
    }
}

/// Whether it is typed as it is, unlike `GPA` and `[ID]`.
fn is_fixed(word: &str) -> bool {
    word.split('|').any(|choice| choice.chars().all(|letter| letter.is_ascii_lowercase()))
}

/// What is completed from.
struct Forms(Vec<Form>);

impl Forms {
    /// Where the word begins that ends `typed`, and what it may become.
    fn complete(&self, typed: &str) -> (usize, Vec<Pair>) {
        let start = typed.rfind(char::is_whitespace).map_or(0, |space| space + 1);
        let (before, begun) = typed.split_at(start);
        let before: Vec<&str> = before.split_whitespace().collect();
        let mut found: Vec<Pair> = Vec::new();
        for form in &self.0 {
            for word in form.choices(&before).into_iter().filter(|word| word.starts_with(begun)) {
                if found.iter().all(|pair| pair.replacement.trim_end() != word) {
                    let display = if before.is_empty() { word.to_owned() } else { format!("{word}: {}", form.about) };
                    found.push(Pair { display, replacement: format!("{word} ") });
                }
            }
        }
        (start, found)
    }
}

impl Completer for Forms {
    type Candidate = Pair;

    fn complete(&self, line: &str, at: usize, _: &Context<'_>) -> rustyline::Result<(usize, Vec<Pair>)> {
        Ok(Self::complete(self, line.get(..at).unwrap_or(line)))
    }
}

impl Hinter for Forms {
    type Hint = String;
}

impl Highlighter for Forms {}
impl Validator for Forms {}
impl Helper for Forms {}

#[cfg(test)]
mod tests {
    use super::*;
    use vcpu::console::COMMANDS;

    fn completed(typed: &str) -> Vec<String> {
        let line = |entry: &vcpu::console::Entry| format!("{} {}: {}", entry.name, entry.arguments, entry.about);
        let forms = Forms(COMMANDS.iter().map(|entry| Form::read(&line(entry))).collect());
        let (start, pairs) = forms.complete(typed);
        pairs.into_iter().map(|pair| format!("{}{}", &typed[..start], pair.replacement)).collect()
    }

    #[test]
    fn commands_and_their_fixed_words_are_completed() {
        assert_eq!(completed("st"), ["stats "]);
        assert_eq!(completed("slot m"), ["slot move "]);
        assert_eq!(completed("slot "), ["slot list ", "slot create ", "slot delete ", "slot move ", "slot flags "]);
        assert_eq!(completed("dirty "), ["dirty start ", "dirty read ", "dirty stop "]);
        assert_eq!(completed("track 0x1000 o"), ["track 0x1000 on ", "track 0x1000 off "]);
        assert_eq!(completed("slot flags 3 n"), ["slot flags 3 none "]);
        assert_eq!(completed("").len(), {
            let mut names: Vec<&str> = COMMANDS.iter().map(|entry| entry.name).collect();
            names.dedup();
            names.len()
        });
    }

    #[test]
    fn what_only_the_person_knows_is_not() {
        for typed in ["why ", "slot move ", "slot delete 1 ", "nothing", "dirty maybe "] {
            assert_eq!(completed(typed), Vec::<String>::new(), "{typed}");
        }
    }
}
