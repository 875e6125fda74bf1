//! Ways in which a pager can be wrong: each must be found by the case that is named with it.

/// A flaw: its name, the case that finds it, and the obligation that the case says is broken.
macro_rules! flaws {
    ($($flaw:ident = $name:literal, $case:literal, $obligation:literal;)*) => {
        /// A flaw.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub enum Flaw {
            $(#[doc = concat!("`", $name, "` breaks ", $obligation, ".")] $flaw,)*
        }

        impl Flaw {
            /// Every flaw.
            pub const ALL: &'static [Self] = &[$(Self::$flaw,)*];

            /// Its name.
            #[must_use]
            pub const fn name(self) -> &'static str {
                match self {
                    $(Self::$flaw => $name,)*
                }
            }

            /// The case that finds it.
            #[must_use]
            pub const fn case(self) -> &'static str {
                match self {
                    $(Self::$flaw => $case,)*
                }
            }

            /// The obligation that it breaks.
            #[must_use]
            pub const fn obligation(self) -> &'static str {
                match self {
                    $(Self::$flaw => $obligation,)*
                }
            }

            /// The flaw of that name.
            #[must_use]
            pub fn by_name(name: &str) -> Option<Self> {
                Self::ALL.iter().copied().find(|flaw| flaw.name() == name)
            }
        }
    };
}

flaws! {
    AnswersFirst = "answers-first", "start::it_receives_before_it_answers", "P1";
    Silent = "silent", "answer::each_message_is_answered_once", "P2";
    Dies = "dies", "answer::each_message_is_answered_once", "P2";
    DiesMidFrame = "dies-mid-frame", "answer::each_message_is_answered_once", "P2";
    AnswersNotices = "answers-notices", "answer::a_notice_is_not_answered", "P3";
    GuessesKinds = "guesses-kinds", "answer::what_it_does_not_know_it_denies", "P4";
    RetriesForEver = "retries-for-ever", "fault::memory_of_a_slot_is_given", "P5";
    MapsItsNeighbour = "maps-its-neighbour", "fault::memory_of_a_slot_is_given", "P6";
    RunsOverTheEdge = "runs-over-the-edge", "fault::nothing_beyond_a_slots_edges_is_mapped", "P7";
    WritableRom = "writable-rom", "fault::a_write_to_a_read_only_slot_is_emulated", "P8";
    DeniesMmio = "denies-mmio", "fault::no_slot_is_emulated_up_to_the_last_address", "P9";
    DeniesRomWrites = "denies-rom-writes", "fault::a_write_to_a_read_only_slot_is_emulated", "P10";
    UnclearedPages = "uncleared-pages", "memory::a_new_slot_reads_zero", "P11";
    LosesContent = "loses-content", "memory::content_stays_through_every_change", "P12";
    SharesAFrame = "shares-a-frame", "memory::no_frame_is_in_two_places", "P13";
    GrantsOthers = "grants-others", "grant::none_is_refused", "P14";
    CrossesTables = "crosses-tables", "grant::none_is_refused", "P14";
    StaysStale = "stays-stale", "grant::a_stale_answer_is_worked_out_anew", "P15";
    NoTopUp = "no-top-up", "tables::an_empty_pool_is_filled", "P16";
    WritesTables = "writes-tables", "tables::what_was_given_is_left_alone", "P17";
    HidesExhaustion = "hides-exhaustion", "limits::without_a_frame_access_is_denied", "P18";
    IgnoresTheLog = "ignores-the-log", "log::a_full_log_is_taken", "P19";
    RemembersForEver = "remembers-for-ever", "generation::a_slot_ends_what_was_remembered", "P20";
    NeedsNoHello = "needs-no-hello", "greeting::nothing_is_done_before_hello", "P21";
    AnyMajor = "any-major", "greeting::another_major_is_refused", "P22";
    ReadsPrefixes = "reads-prefixes", "request::what_is_no_request_is_malformed", "P23";
    AcceptsOverlaps = "accepts-overlaps", "slot::create_is_refused_for_each_reason", "P24";
    KeepsDeleted = "keeps-deleted", "slot::a_deleted_slot_is_gone", "P25";
    MovesNothing = "moves-nothing", "slot::a_moved_slot_has_its_content", "P26";
    KeepsRights = "keeps-rights", "slot::flags_are_obeyed_at_once", "P27";
    ShowsPrivate = "shows-private", "slot::a_private_slot_is_not_in_the_window", "P28";
    OneSpace = "one-space", "slot::spaces_are_apart", "P29";
    MissesWrites = "misses-writes", "dirty::what_was_written_is_told_exactly", "P30";
    TellsTooMuch = "tells-too-much", "dirty::what_was_written_is_told_exactly", "P31";
    LogsAlways = "logs-always", "dirty::only_a_logged_slot_has_a_log", "P32";
    TracksNothing = "tracks-nothing", "track::writes_to_a_tracked_page_are_emulated", "P33";
    AnyRegister = "any-register", "types::only_known_registers_are_taken", "P34";
    LargeInSecret = "large-in-secret", "feature::large_pages_are_said_first", "P35";
    NoFigures = "no-figures", "figures::they_are_reported", "P36";
    Tires = "tires", "limits::ten_thousand_messages_are_answered", "P37";
    StraysHandles = "strays-handles", "call::none_is_refused", "P38";
    LongReplies = "long-replies", "request::replies_are_whole_and_short", "P39";
    MixesVms = "mixes-vms", "vm::one_is_nothing_to_another", "P40";
    ForgetsItsFrames = "forgets-its-frames", "life::the_next_incarnation_harms_nothing", "P41";
    Lingers = "lingers", "life::it_ends_with_the_system", "P42";
    MapsUncached = "maps-uncached", "fault::memory_is_write_back", "P45";
    ForgetsTheFar = "forgets-the-far", "dirty::a_large_slot_has_a_whole_log", "P30";
    LeavesItSeen = "leaves-it-seen", "slot::a_private_slot_is_not_in_the_window", "P44";
    HidesASlot = "hides-a-slot", "handover::the_ledger_tells_everything", "P46";
    RunsOn = "runs-on", "handover::a_pager_that_has_handed_over_stands_still", "P47";
    ForgetsWhatIsMapped = "forgets-what-is-mapped", "handover::the_next_pager_goes_on", "P48";
    AnswersRefusals = "answers-refusals", "answer::a_refusal_is_not_answered", "P3";
    ServesStrangers = "serves-strangers", "answer::what_it_does_not_know_it_denies", "P4";
    CutsAddresses = "cuts-addresses", "fault::no_slot_is_emulated_up_to_the_last_address", "P9";
    CutsNumbers = "cuts-numbers", "request::numbers_are_read_to_their_last_bit", "P24";
    AnyText = "any-text", "request::a_text_is_utf8", "P23";
    MissesNeighbours = "misses-neighbours", "dirty::neighbours_are_noted_one_by_one", "P30";
    SkipsATable = "skips-a-table", "dirty::one_page_is_found_wherever_it_lies", "P30";
    IgnoresFixedRanges = "ignores-fixed-ranges", "types::no_large_page_lies_over_fixed_ranges", "P34";
    WindowsBringNone = "windows-bring-none", "tables::a_window_needs_as_many_again", "P16";
    Leaks = "leaks", "limits::a_thousand_slots_come_and_go", "P37";
    LooksAtQualifications = "looks-at-qualifications", "generation::a_slot_ends_what_was_remembered", "P20";
    PrefaultsNothing = "prefaults-nothing", "request::what_a_pager_need_not_have_is_answered_too", "P43";
    Broods = "broods", "life::the_next_incarnation_harms_nothing", "P41";
    BeginsAfresh = "begins-afresh", "life::what_another_has_kept_is_not_trusted", "P41";
    KeepsNothing = "keeps-nothing", "life::what_is_kept_is_enough", "P51";
    HoldsOn = "holds-on", "vm::one_that_is_over_is_taken_back", "P49";
    HandsOverUnsaid = "hands-over-unsaid", "handover::the_ledger_tells_everything", "P46";
    WakesNobody = "wakes-nobody", "handover::a_pager_that_has_handed_over_stands_still", "P47";
    PromisesWindows = "promises-windows", "handover::a_pager_that_has_handed_over_stands_still", "P47";
    BeginsClean = "begins-clean", "handover::the_next_pager_goes_on", "P48";
    TakesAny = "takes-any", "handover::what_no_slot_has_is_not_taken_over", "P48";
    SaysOldGenerations = "says-old-generations", "handover::what_was_remembered_stays_void", "P20";
    HidesRefusals = "hides-refusals", "request::what_the_kernel_refuses_is_told", "P50";
    AnyPolicy = "any-policy", "request::what_a_pager_need_not_have_is_answered_too", "P43";
}
