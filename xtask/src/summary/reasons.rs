//! Names of VM exits. The kernel counts them by their number (SDM vol. 3D, appendix C).

/// The exit `reason`, as the summary calls it.
pub fn name(reason: &str) -> Option<&'static str> {
    Some(match reason {
        "0" => "exception_or_nmi",
        "1" => "external_interrupt",
        "2" => "triple_fault",
        "7" => "interrupt_window",
        "9" => "task_switch",
        "10" => "cpuid",
        "12" => "hlt",
        "13" => "invd",
        "15" => "rdpmc",
        "18" => "vmcall",
        "28" => "control_register",
        "29" => "debug_register",
        "30" => "io_instruction",
        "31" => "rdmsr",
        "32" => "wrmsr",
        "33" => "entry_failed_state",
        "36" => "mwait",
        "39" => "monitor",
        "48" => "ept_violation",
        "49" => "ept_misconfiguration",
        "54" => "wbinvd",
        "55" => "xsetbv",
        "62" => "log_full",
        _ => return None,
    })
}
