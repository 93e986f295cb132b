//! `Layout`, `Territory` and `Walk` against brute force over the addresses of elements.

use std::collections::HashMap;

use crate::layout::{Axes, Conflict, Layout, Territory, Walk};
use proptest::prelude::*;

/// Every index of a shape, in C order.
fn indices(shape: &[usize]) -> Vec<Vec<usize>> {
    let mut all = vec![vec![]];
    for &n in shape {
        all = all.into_iter().flat_map(|index| (0..n).map(move |i| [index.clone(), vec![i]].concat())).collect();
    }
    all
}

fn offset(index: &[usize], strides: &[isize]) -> isize {
    index.iter().zip(strides).map(|(&i, stride)| i as isize * stride).sum()
}

/// For each byte how many elements cover it.
fn bytes(layout: &Layout) -> HashMap<usize, usize> {
    let mut covered = HashMap::new();
    for index in indices(&layout.shape) {
        let address = layout.address.wrapping_add_signed(offset(&index, &layout.strides));
        for byte in address..address + layout.item {
            *covered.entry(byte).or_insert(0) += 1;
        }
    }
    covered
}

fn overlap(a: &Layout, b: &Layout) -> bool {
    let (a, b) = (bytes(a), bytes(b));
    a.keys().any(|byte| b.contains_key(byte))
}

/// Small arrays close to each other, with any strides: they meet about as often as not.
fn layouts() -> impl Strategy<Value = Layout> {
    let axes = prop::collection::vec((0_usize..5, -13_isize..14), 0..4);
    let unit = prop::sample::select(vec![1_isize, 2, 4]);
    (axes, unit, prop::sample::select(vec![2_usize, 4, 8]), 1000_usize..1100).prop_map(|(axes, unit, item, address)| {
        let shape = axes.iter().map(|axis| axis.0).collect();
        Layout { address, item, shape, strides: axes.iter().map(|axis| axis.1 * unit).collect() }
    })
}

/// Views of one buffer: every k-th row or column from some place on, as NumPy cuts them.
fn cuts() -> impl Strategy<Value = Layout> {
    let axis = (0_usize..4, 1_usize..4, 1_usize..5, any::<bool>());
    (axis.clone(), axis, any::<bool>()).prop_map(|(rows, columns, transposed)| {
        let mut layout = Layout { address: 1000, item: 4, shape: Axes::new(), strides: Axes::new() };
        for ((start, step, n, backward), stride) in [(rows, 64_isize), (columns, 4)] {
            let last = start + (n - 1) * step;
            layout.address = layout.address.wrapping_add_signed(stride * if backward { last } else { start } as isize);
            layout.shape.push(n);
            layout.strides.push(stride * step as isize * if backward { -1 } else { 1 });
        }
        if transposed {
            layout.shape.reverse();
            layout.strides.reverse();
        }
        layout
    })
}

fn any_layout() -> impl Strategy<Value = Layout> {
    prop_oneof![layouts(), cuts()]
}

/// A shape with axes of every length, and strides for several arrays of it.
fn walks() -> impl Strategy<Value = (Vec<usize>, Vec<Vec<isize>>)> {
    prop::collection::vec(1_usize..5, 0..5).prop_flat_map(|shape| {
        let n = shape.len();
        let order = Just((0..n).collect::<Vec<_>>()).prop_shuffle();
        let laid_out = (order, prop::collection::vec(any::<bool>(), n), 1_isize..3);
        let sizes = shape.clone();
        let strides = laid_out.prop_map(move |(order, backward, gap)| {
            let (mut strides, mut step) = (vec![0; n], 4 * gap);
            for &axis in &order {
                strides[axis] = if backward[axis] { -step } else { step };
                step *= sizes[axis] as isize;
            }
            strides
        });
        let free = prop::collection::vec(-20_isize..20, n);
        let second = prop_oneof![strides.clone(), free];
        (Just(shape), strides, second).prop_map(|(shape, first, second)| (shape, vec![first, second]))
    })
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(4000) })]

    #[test]
    fn overlaps_equals_brute_force(a in any_layout(), b in any_layout()) {
        prop_assert_eq!(a.overlaps(&b), overlap(&a, &b));
        prop_assert_eq!(b.overlaps(&a), overlap(&a, &b));
    }

    #[test]
    fn is_injective_equals_brute_force(a in any_layout()) {
        prop_assert_eq!(a.is_injective(), bytes(&a).values().all(|&count| count == 1));
    }

    #[test]
    fn extent_is_the_hull_of_all_elements(a in any_layout()) {
        let covered = bytes(&a);
        let (low, high) = a.extent();
        prop_assert_eq!(a.len(), indices(&a.shape).len());
        prop_assert_eq!(a.is_empty(), covered.is_empty());
        if !covered.is_empty() {
            prop_assert_eq!((covered.keys().min(), covered.keys().max()), (Some(&low), Some(&(high - 1))));
        }
    }

    #[test]
    fn a_territory_finds_a_conflict_if_there_is_one(
        all in prop::collection::vec(cuts(), 1..5),
        free in prop::collection::vec(layouts(), 0..2),
        other in any_layout(),
    ) {
        let all = [all, free].concat();
        let repeats = |i: usize| bytes(&all[i]).values().any(|&count| count > 1);
        let meets = (0..all.len()).any(|i| (0..i).any(|j| overlap(&all[i], &all[j])));
        match Territory::new(all.clone()) {
            Err(Conflict::Within(i)) => prop_assert!(repeats(i)),
            Err(Conflict::Between(i, j)) => prop_assert!(i < j && overlap(&all[i], &all[j])),
            Ok(territory) => {
                prop_assert!(!meets && !(0..all.len()).any(repeats));
                let met = all.iter().any(|layout| overlap(layout, &other));
                let found = territory.find(&other);
                prop_assert_eq!(found.is_some(), met);
                prop_assert!(found.is_none_or(|i| overlap(&all[i], &other)));
                let (low, high) = other.extent();
                let hulls = all.iter().filter(|layout| !layout.is_empty()).map(Layout::extent);
                let clear = hulls.into_iter().all(|(from, to)| to <= low || high <= from);
                prop_assert!(!territory.is_clear(low, high) || clear, "it may say no without need, but never yes");
            }
        }
    }

    #[test]
    fn a_walk_visits_each_element_of_all_arrays_in_step((shape, strides) in walks()) {
        let slices: Vec<&[isize]> = strides.iter().map(|strides| &strides[..]).collect();
        let walk = Walk::by_memory(&shape, &slices);
        let want: HashMap<isize, isize> =
            indices(&shape).iter().map(|index| (offset(index, &strides[0]), offset(index, &strides[1]))).collect();
        let n = indices(&shape).len();
        let got: Vec<(isize, isize)> = (0..n).map(|i| (walk.offset(i, 0), walk.offset(i, 1))).collect();
        prop_assert!(got.windows(2).all(|pair| pair[0].0 < pair[1].0), "in the order of the first array's memory");
        prop_assert_eq!(got.iter().copied().collect::<HashMap<_, _>>(), want);
        for array in 0..2 {
            let all: Vec<isize> = (0..n).map(|i| walk.offset(i, array)).collect();
            prop_assert_eq!(all[0], walk.start(array));
            prop_assert!(!walk.is_dense(array, 4) || all.windows(2).all(|pair| pair[1] - pair[0] == 4));
            for i in 0..n {
                let (first, even, step) = walk.run(i, array);
                prop_assert!(even >= 1 && i + even <= n);
                for k in 0..even {
                    prop_assert_eq!(first + k as isize * step, all[i + k]);
                }
            }
        }
    }

    #[test]
    fn a_logical_walk_is_c_order_and_knows_whether_it_is_dense((shape, strides) in walks()) {
        for strides in strides {
            let walk = Walk::logical(&shape, &[&strides]);
            let want: Vec<isize> = indices(&shape).iter().map(|index| offset(index, &strides)).collect();
            prop_assert_eq!(&(0..want.len()).map(|i| walk.offset(i, 0)).collect::<Vec<_>>(), &want);
            prop_assert_eq!(walk.is_dense(0, 4), want.windows(2).all(|pair| pair[1] - pair[0] == 4));
        }
    }
}
