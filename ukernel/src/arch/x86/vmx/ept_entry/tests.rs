use super::*;

#[test]
fn a_leaf_says_what_it_was_made_from() {
    for level in 1..=3 {
        for rights in [Rights::READ, Rights::READ | Rights::WRITE, Rights::all(), Rights::EXECUTE] {
            for mem_type in [MemType::Uncacheable, MemType::WriteBack, MemType::WriteThrough] {
                let entry = EptFormat::leaf(Pfn(0x40000), level, rights, mem_type);
                let Entry::Leaf(leaf) = EptFormat::decode(entry, level) else { panic!("{entry:#x} is no leaf") };
                assert_eq!((leaf.pfn, leaf.rights, leaf.mem_type), (Pfn(0x40000), rights, mem_type));
                assert!(!leaf.accessed && !leaf.dirty);
            }
        }
    }
}

#[test]
fn rights_of_a_leaf_are_the_low_bits_of_the_manual() {
    // SDM vol. 3C, table 29-7: read 0, write 1, execute 2, type 5:3, ignore PAT 6.
    let entry = EptFormat::leaf(Pfn(0x1234), 1, Rights::READ | Rights::EXECUTE, MemType::WriteBack);
    assert_eq!(entry, 0x123_4000 | 0b101 | 6 << 3 | 1 << 6 | 0b101 << 52);
}

#[test]
fn what_a_harvest_takes_the_next_access_gives_back() {
    let entry = EptFormat::leaf(Pfn(7), 1, Rights::all(), MemType::WriteBack);
    for (mode, left, tried) in [
        (Harvest::WriteProtect, Rights::READ | Rights::EXECUTE, Rights::WRITE),
        (Harvest::Hide, Rights::empty(), Rights::READ | Rights::WRITE),
    ] {
        let harvested = entry & !reported_by(mode);
        let Entry::Leaf(leaf) = EptFormat::decode(harvested, 1) else { panic!("{harvested:#x} is no leaf") };
        assert_eq!((leaf.rights, leaf.allowed), (Rights::all(), left));
        assert_eq!(harvested | given_back(&leaf, tried), entry, "{mode:?}");
        let read = EptFormat::decode(harvested | given_back(&leaf, Rights::READ), 1);
        let Entry::Leaf(read) = read else { panic!("it is a leaf still") };
        assert_eq!(read.allowed, Rights::READ | Rights::EXECUTE, "a read is no write");
    }
    assert_eq!(entry & !lost(Rights::READ), EptFormat::leaf(Pfn(7), 1, Rights::READ, MemType::WriteBack));
}

#[test]
fn a_remembered_answer_is_no_mapping() {
    for generation in [1, (1 << 40) - 1] {
        assert_eq!(EptFormat::decode(remembered(generation), 1), Entry::Empty);
        // Writable but not readable is a misconfiguration (SDM vol. 3C, 29.3.3.1).
        assert_eq!(remembered(generation) & RIGHTS, 0b110);
    }
}

#[test]
fn an_entry_without_rights_is_empty_whatever_else_it_says() {
    assert_eq!(EptFormat::decode(0xffff_f000 | ACCESSED, 1), Entry::Empty);
    assert_eq!(EptFormat::decode(EptFormat::table(Pfn(7)), 2), Entry::Table(Pfn(7)));
}
