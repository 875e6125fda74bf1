//! Promises that a machine keeps. The longest come first, so that they run beside the others.

mod conformance;
mod drill;
mod guests;
mod linux;
mod lives;
mod machines;
mod overcommit;
mod pagers;
mod pipeline;
mod policies;
mod rogue;
mod shadow;
mod stops;
mod swaps;
mod ticks;
mod touch;
mod two_pagers;
mod usage;

use super::promise::Promise;

/// Every scenario.
pub const ALL: &[Promise] = &[
    Promise { name: "linux::debian_runs_on_pages_from_the_pager", check: linux::debian },
    Promise { name: "linux::debians_other_kernel_runs_too", check: linux::generic },
    Promise { name: "machines::a_thousand_faults_under_qemu_with_nested_vmx", check: machines::nested },
    Promise { name: "conformance::broken_kernels_are_caught", check: conformance::broken_kernels },
    Promise { name: "conformance::the_kernel_keeps_its_obligations", check: conformance::kernel },
    Promise { name: "drill::linux_keeps_its_memory_while_slots_move_and_pages_are_taken_back", check: drill::slots },
    Promise { name: "drill::linux_is_copied_while_large_pages_split_and_collapse", check: drill::large },
    Promise { name: "two_pagers::two_guests_run_side_by_side_on_pagers_of_their_own", check: two_pagers::side_by_side },
    Promise { name: "shadow::the_pager_in_c_decides_alike_while_linux_boots", check: shadow::in_c },
    Promise { name: "shadow::what_a_second_pager_does_is_nothing_to_the_guest", check: shadow::harmless },
    Promise { name: "overcommit::linux_checks_its_memory_in_half_of_it", check: overcommit::linux },
    Promise { name: "linux::a_person_at_the_console_has_a_shell", check: linux::shell },
    Promise { name: "guests::memtest_shows_its_screen", check: guests::memtest },
    Promise { name: "guests::a_multiboot_kernel_finds_memory_map_and_module", check: guests::multiboot },
    Promise { name: "touch::every_check_holds_and_a_fault_is_cheap", check: touch::everything },
    Promise { name: "pipeline::three_ways_tell_of_the_same_writes", check: pipeline::dirty },
    Promise { name: "pipeline::idle_pages_are_told_with_and_without_a_bits", check: pipeline::idle },
    Promise { name: "pipeline::each_change_is_one_invept", check: pipeline::invalidations },
    Promise { name: "pipeline::a_promised_page_comes_with_its_content", check: pipeline::promised },
    Promise { name: "pipeline::equal_pages_share_a_frame_until_one_is_written", check: pipeline::shared },
    Promise { name: "pipeline::slots_have_a_modules_content_until_they_are_written", check: pipeline::images },
    Promise { name: "pipeline::what_is_prefaulted_is_not_faulted_for", check: pipeline::prefaulted },
    Promise { name: "pipeline::a_private_page_is_the_guests_alone", check: pipeline::private },
    Promise { name: "lives::a_guest_passes_every_check_over_many_lives_of_its_pager", check: lives::touched },
    Promise { name: "lives::the_pager_dies_at_each_step_of_the_protocol", check: lives::steps },
    Promise { name: "lives::a_pager_dies_with_a_page_half_taken", check: lives::reclaims },
    Promise { name: "lives::a_server_that_dies_takes_its_vm_alone", check: lives::server },
    Promise { name: "swaps::a_pager_that_is_asked_to_begin_anew_loses_nothing", check: swaps::asked },
    Promise { name: "swaps::a_death_at_any_step_of_a_hand_over_loses_nothing", check: swaps::dies },
    Promise { name: "swaps::a_death_of_who_goes_on_from_what_is_kept_loses_nothing", check: swaps::goes_on },
    Promise { name: "swaps::a_guest_larger_than_its_frames_has_its_pager_replaced", check: swaps::larger },
    Promise { name: "swaps::a_pager_of_two_vms_is_replaced_under_both", check: swaps::shared },
    Promise { name: "swaps::kills_at_any_tick_of_a_hand_over_lose_nothing", check: swaps::killed },
    Promise { name: "swaps::an_image_that_is_no_pager_gives_way_to_the_one_before", check: swaps::refused },
    Promise { name: "swaps::a_pause_is_short_but_for_what_is_handed_over", check: swaps::pause },
    Promise { name: "swaps::one_pager_makes_way_for_another_under_a_guest", check: swaps::whole },
    Promise { name: "pagers::a_guest_cannot_tell_the_pager_in_c_from_ours", check: pagers::in_c },
    Promise { name: "two_pagers::one_that_stops_holds_up_its_vm_alone", check: two_pagers::one_stops },
    Promise { name: "policies::the_kit_passes_under_every_one", check: policies::kit },
    Promise { name: "overcommit::a_guest_that_does_not_compress_ends_alone", check: overcommit::alone },
    Promise { name: "overcommit::a_page_goes_and_comes_again_for_little", check: overcommit::cost },
    Promise { name: "rogue::a_server_reaches_only_what_it_was_given", check: rogue::stopped },
    Promise { name: "ticks::none_is_more_than_recorded", check: ticks::recorded },
    Promise { name: "stops::a_triple_fault_ends_the_vm_with_its_registers", check: stops::triple_fault },
    Promise { name: "stops::an_event_that_needs_what_is_no_memory_ends_the_vm", check: stops::vectoring },
    Promise { name: "stops::a_guest_cannot_speak_for_the_system", check: stops::liar },
    Promise { name: "stops::a_fault_without_end_ends_the_vm_with_the_whole_story", check: stops::endless },
    Promise { name: "stops::without_a_pager_the_first_fault_stops_the_guest", check: stops::no_pager },
    Promise { name: "stops::a_guest_that_never_ends_is_ended", check: stops::timeout },
    Promise { name: "machines::without_vmx_one_clear_line_and_failure", check: machines::no_vmx },
    Promise { name: "machines::a_cpu_that_lacks_something_is_refused_by_name", check: machines::lesser_cpus },
    Promise { name: "machines::older_and_newer_cpus_run_guests", check: machines::other_cpus },
    Promise { name: "machines::a_host_that_cannot_nest_vmx_is_told", check: machines::host },
    Promise { name: "usage::image_prints_the_path_of_an_iso_that_boots", check: usage::image },
    Promise { name: "usage::ctrl_a_x_leaves_the_console", check: usage::leave },
    Promise { name: "usage::an_unknown_name_lists_the_known_ones", check: usage::unknown_names },
    Promise { name: "usage::a_mistake_in_a_manifest_is_named", check: usage::mistakes },
];
