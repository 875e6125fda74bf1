//! `--set KEY=VALUE`: changes to a system file, by dotted path.

use super::pager;
use crate::status;
use anyhow::Context;
use toml::{Table, Value};

/// The value that takes a task out of the system.
const NONE: &str = "none";

/// Applies one `KEY=VALUE`.
///
/// Besides the file's own paths there are short forms: `policy=...` and `policy.X=...` for the option of the first
/// VM's pager, `vm.KEY=...` for a key of the only VM, and `task.NAME.KEY=...` for an option of a task; `pager=...` runs
/// another pager, and `shadow=...` one beside it whose answers are compared.
///
/// # Errors
/// No `=`, or a path through something that is no table.
pub fn apply(table: &mut Table, assignment: &str) -> anyhow::Result<()> {
    let (key, value) = assignment
        .split_once('=')
        .ok_or_else(|| status::usage(format!("--set {assignment}: no `=`; allowed: KEY=VALUE")))?;
    put(table, key.trim(), parse(value.trim())).with_context(|| format!("--set {assignment}"))
}

/// Puts `value` at the dotted path `key`.
///
/// # Errors
/// A path through something that is no table.
pub fn put(table: &mut Table, key: &str, value: Value) -> anyhow::Result<()> {
    let path = full_path(table, key);
    let steps: Vec<&str> = path.iter().map(String::as_str).collect();
    match (steps.as_slice(), &value) {
        (["pager"], name) => pager::choose(table, name),
        (["shadow"], name) => pager::shadow(table, name),
        (["task", task], Value::String(none)) if none == NONE => remove_task(table, task),
        ([kind @ ("task" | "vm"), name, _, ..], _) if !has(table, kind, name) => Err(no_such(table, kind, name)),
        _ => insert(table, &steps, value),
    }
}

/// A value as TOML reads it; what TOML does not read is text, so that quotes can be left out.
fn parse(value: &str) -> Value {
    let line = format!("value = {value}");
    line.parse::<Table>()
        .ok()
        .and_then(|mut table| table.remove("value"))
        .unwrap_or_else(|| Value::String(value.to_owned()))
}

/// The path in the file that `key` means.
fn full_path(table: &Table, key: &str) -> Vec<String> {
    let steps: Vec<&str> = key.split('.').collect();
    let own = |steps: &[&str]| steps.iter().map(|step| (*step).to_owned()).collect();
    match steps.as_slice() {
        ["policy", ..] => match first_pager(table) {
            Some(task) => vec!["task".to_owned(), task, "options".to_owned(), key.to_owned()],
            None => own(&steps),
        },
        ["vm", key] if super::vms::KEYS.contains(key) => match only_vm(table) {
            Some(vm) => vec!["vm".to_owned(), vm, (*key).to_owned()],
            None => own(&steps),
        },
        ["task", _, key] if super::tasks::KEYS.contains(key) => own(&steps),
        ["task", task, "options", option @ ..] | ["task", task, option @ ..] if !option.is_empty() => {
            vec!["task".to_owned(), (*task).to_owned(), "options".to_owned(), option.join(".")]
        }
        _ => own(&steps),
    }
}

fn vms(table: &Table) -> Option<&Table> {
    table.get("vm")?.as_table()
}

fn only_vm(table: &Table) -> Option<String> {
    let vms = vms(table)?;
    (vms.len() == 1).then(|| vms.keys().next().cloned()).flatten()
}

fn first_pager(table: &Table) -> Option<String> {
    vms(table)?.values().find_map(|vm| Some(vm.get("pager")?.as_str()?.to_owned()))
}

fn insert(table: &mut Table, path: &[&str], value: Value) -> anyhow::Result<()> {
    match path {
        [] => Ok(()),
        [key] => {
            table.insert((*key).to_owned(), value);
            Ok(())
        }
        [key, rest @ ..] => {
            let below = table.entry(*key).or_insert_with(|| Value::Table(Table::new()));
            match below {
                Value::Table(below) => insert(below, rest, value),
                other => Err(status::usage(format!("`{key}` is {other}, not a table"))),
            }
        }
    }
}

fn has(table: &Table, kind: &str, name: &str) -> bool {
    table.get(kind).and_then(Value::as_table).is_some_and(|all| all.contains_key(name))
}

/// An unknown task or VM, with the known ones.
fn no_such(table: &Table, kind: &str, name: &str) -> anyhow::Error {
    let all = table.get(kind).and_then(Value::as_table);
    let known: Vec<&str> = all.into_iter().flat_map(Table::keys).map(String::as_str).collect();
    status::usage(format!("there is no {kind} `{name}`; there are: {}", known.join(", ")))
}

/// Takes a task out, and makes no task the pager of the VMs that it paged.
fn remove_task(table: &mut Table, task: &str) -> anyhow::Result<()> {
    if !has(table, "task", task) {
        return Err(no_such(table, "task", task));
    }
    if let Some(Value::Table(tasks)) = table.get_mut("task") {
        tasks.remove(task);
    }
    for vm in table.get_mut("vm").and_then(Value::as_table_mut).into_iter().flat_map(|vms| vms.iter_mut()) {
        if let Value::Table(vm) = vm.1
            && vm.get("pager").and_then(Value::as_str) == Some(task)
        {
            vm.remove("pager");
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn system() -> Table {
        "log = \"info\"\n[task.vmm-mm]\npriority = 2\n[task.vcpu]\npriority = 1\n\
         [vm.guest]\npager = \"vmm-mm\"\nserver = \"vcpu\"\nmemory = \"64 MiB\"\n"
            .parse()
            .expect("TOML")
    }

    fn after(assignment: &str) -> Table {
        let mut table = system();
        apply(&mut table, assignment).expect(assignment);
        table
    }

    #[test]
    fn a_full_path_replaces_the_value_with_or_without_quotes() {
        for assignment in ["vm.guest.memory=256 MiB", "vm.guest.memory=\"256 MiB\"", "vm.memory=256 MiB"] {
            assert_eq!(after(assignment)["vm"]["guest"]["memory"].as_str(), Some("256 MiB"), "{assignment}");
        }
        assert_eq!(after("task.vcpu.priority=3")["task"]["vcpu"]["priority"].as_integer(), Some(3));
        assert_eq!(after("log=debug")["log"].as_str(), Some("debug"));
    }

    #[test]
    fn the_short_forms_of_policy_are_options_of_the_pager() {
        let table = after("policy=fault-around");
        assert_eq!(table["task"]["vmm-mm"]["options"]["policy"].as_str(), Some("fault-around"));
        let table = after("policy.window=16");
        assert_eq!(table["task"]["vmm-mm"]["options"]["policy.window"].as_integer(), Some(16));
        let table = after("task.vmm-mm.policy=demand");
        assert_eq!(table["task"]["vmm-mm"]["options"]["policy"].as_str(), Some("demand"));
        let table = after("task.vcpu.options.console.poll_ms=5");
        assert_eq!(table["task"]["vcpu"]["options"]["console.poll_ms"].as_integer(), Some(5));
    }

    #[test]
    fn removing_the_pager_leaves_the_vm_without_one() {
        let table = after("task.vmm-mm=none");
        assert!(table["task"].get("vmm-mm").is_none());
        assert!(table["vm"]["guest"].get("pager").is_none());
        let error = apply(&mut system(), "task.pager=none").expect_err("no such task");
        assert!(format!("{error:#}").contains("vmm-mm, vcpu"), "{error:#}");
    }

    #[test]
    fn an_assignment_without_equals_or_through_a_value_is_refused() {
        assert!(apply(&mut system(), "policy").is_err());
        assert!(apply(&mut system(), "log.level=info").is_err());
    }

    #[test]
    fn a_task_or_vm_that_there_is_not_is_refused_with_those_that_there_are() {
        for (assignment, known) in [("vm.gest.memory=1 MiB", "guest"), ("task.vmm.priority=1", "vmm-mm, vcpu")] {
            let error = apply(&mut system(), assignment).expect_err(assignment);
            assert!(format!("{error:#}").contains(known), "{error:#}");
        }
    }
}
