//! Shapes and strides: walks over elements in a given order, and whether two arrays share one. No memory is touched here.

use smallvec::{SmallVec, smallvec};

/// A number for each axis; the usual few need no allocation.
pub type Axes<T> = SmallVec<[T; 4]>;

/// Where an array's elements lie: bytes from `address`, as NumPy describes them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Layout {
    /// Address of the first element.
    pub address: usize,
    /// Bytes an element.
    pub item: usize,
    /// Elements along each axis.
    pub shape: Axes<usize>,
    /// Bytes from one element to the next along each axis.
    pub strides: Axes<isize>,
}

impl Layout {
    /// Number of elements.
    #[must_use]
    pub fn len(&self) -> usize {
        self.shape.iter().product()
    }

    /// No elements?
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.shape.contains(&0)
    }

    /// First and one past the last byte that an element covers.
    #[must_use]
    pub fn extent(&self) -> (usize, usize) {
        if self.is_empty() {
            return (self.address, self.address);
        }
        let (mut low, mut high) = (0, 0);
        for (&n, &stride) in self.shape.iter().zip(&self.strides) {
            let span = (n as isize - 1) * stride;
            low += span.min(0);
            high += span.max(0);
        }
        (self.address.wrapping_add_signed(low), self.address.wrapping_add_signed(high) + self.item)
    }

    /// Axes longer than one, by falling distance of their elements.
    fn axes(&self) -> Axes<(usize, usize)> {
        let all = self.shape.iter().zip(&self.strides).map(|(&n, &stride)| (n, stride.unsigned_abs()));
        let mut axes: Axes<_> = all.filter(|&(n, _)| n > 1).collect();
        axes.sort_by_key(|&(_, stride)| std::cmp::Reverse(stride));
        axes
    }

    /// Each element has a place of its own?
    #[must_use]
    pub fn is_injective(&self) -> bool {
        if self.is_empty() {
            return true;
        }
        let mut reach = self.item;
        for (n, stride) in self.axes().into_iter().rev() {
            if stride < reach {
                return self.is_injective_by_marking();
            }
            reach += (n - 1) * stride;
        }
        true
    }

    fn is_injective_by_marking(&self) -> bool {
        if self.axes().iter().any(|&(_, stride)| stride == 0) {
            return false;
        }
        let (low, high) = self.extent();
        let mut marks = Marks::new(low, high);
        self.addresses().all(|address| marks.mark(address, self.item))
    }

    /// The address of each element, in C order.
    fn addresses(&self) -> impl Iterator<Item = usize> + '_ {
        let walk = Walk::logical(&self.shape, &[&self.strides]);
        (0..self.len()).map(move |i| self.address.wrapping_add_signed(walk.offset(i, 0)))
    }

    /// Do the arrays share an element? Halves the larger one until the parts are apart or single elements; needs no memory
    /// of the arrays' size.
    #[must_use]
    pub fn overlaps(&self, other: &Self) -> bool {
        !self.is_empty() && !other.is_empty() && self.distinct().meets(&other.distinct())
    }

    /// Without the axes along which nothing moves.
    fn distinct(&self) -> Self {
        let moving = |axis: &usize| self.shape[*axis] > 1 && self.strides[*axis] != 0;
        let axes: Axes<usize> = (0..self.shape.len()).filter(moving).collect();
        Self {
            address: self.address,
            item: self.item,
            shape: axes.iter().map(|&axis| self.shape[axis]).collect(),
            strides: axes.iter().map(|&axis| self.strides[axis]).collect(),
        }
    }

    fn meets(&self, other: &Self) -> bool {
        let ((low, high), (other_low, other_high)) = (self.extent(), other.extent());
        if low.max(other_low) >= high.min(other_high) || self.is_apart_by_residues(other) {
            return false;
        }
        let (larger, smaller) = if high - low >= other_high - other_low { (self, other) } else { (other, self) };
        let Some([first, second]) = larger.halves() else {
            return smaller.halves().is_none_or(|[first, second]| first.meets(larger) || second.meets(larger));
        };
        first.meets(smaller) || second.meets(smaller)
    }

    /// Cut in the middle of the axis whose elements lie farthest apart; `None` for a single element.
    fn halves(&self) -> Option<[Self; 2]> {
        let axis = (0..self.shape.len())
            .filter(|&axis| self.shape[axis] > 1)
            .max_by_key(|&axis| self.strides[axis].unsigned_abs())?;
        let middle = self.shape[axis] / 2;
        let (mut first, mut second) = (self.clone(), self.clone());
        first.shape[axis] = middle;
        second.shape[axis] -= middle;
        second.address = second.address.wrapping_add_signed(middle as isize * self.strides[axis]);
        Some([first, second])
    }

    /// Columns of one buffer, as `buf[:, :4]` and `buf[:, 4:]` or `buf[::2]` and `buf[1::2]`: modulo some stride the two keep to
    /// separate ranges. Answers without a look at each element; `false` means that this does not tell.
    fn is_apart_by_residues(&self, other: &Self) -> bool {
        let (a, b) = (self.axes(), other.axes());
        let strides = a.iter().chain(&b).map(|&(_, stride)| stride).filter(|&stride| stride > 0);
        let all = strides.clone().fold(0, gcd);
        let reach = |axes: &[(usize, usize)], item: usize, modulus: usize| -> usize {
            item + axes.iter().filter(|axis| axis.1 % modulus != 0).map(|&(n, stride)| (n - 1) * stride).sum::<usize>()
        };
        strides.chain([all]).filter(|&modulus| modulus > 0).any(|modulus| {
            let distance = (other.extent().0 as isize - self.extent().0 as isize).rem_euclid(modulus as isize) as usize;
            reach(&a, self.item, modulus) <= distance && distance + reach(&b, other.item, modulus) <= modulus
        })
    }
}

fn gcd(a: usize, b: usize) -> usize {
    if b == 0 { a } else { gcd(b, a % b) }
}

/// One bit for each byte of a range of addresses.
struct Marks {
    from: usize,
    to: usize,
    bits: Vec<u64>,
}

impl Marks {
    fn new(from: usize, to: usize) -> Self {
        Self { from, to, bits: vec![0; (to - from).div_ceil(64)] }
    }

    fn bytes(&self, address: usize, item: usize) -> std::ops::Range<usize> {
        let end = (address + item).min(self.to).max(self.from);
        address.clamp(self.from, end) - self.from..end - self.from
    }

    fn is_free(&self, address: usize, item: usize) -> bool {
        self.bytes(address, item).all(|i| self.bits[i / 64] & (1 << (i % 64)) == 0)
    }

    /// Marks the bytes of an element; false if one was marked already.
    fn mark(&mut self, address: usize, item: usize) -> bool {
        let free = self.is_free(address, item);
        for i in self.bytes(address, item) {
            self.bits[i / 64] |= 1 << (i % 64);
        }
        free
    }
}

/// Arrays that are written, ordered by address, to find what shares an element with them.
#[derive(Debug, Default)]
pub struct Territory {
    /// (first byte, largest end so far, index into `layouts`), by first byte.
    order: Vec<(usize, usize, usize)>,
    layouts: Vec<Layout>,
}

/// What [`Territory::new`] may find.
#[derive(Debug, PartialEq, Eq)]
pub enum Conflict {
    /// One array's indices share memory.
    Within(usize),
    /// Two arrays share an element.
    Between(usize, usize),
}

impl Territory {
    /// Arrays none of which shares an element with itself or another; else the first conflict by address.
    pub fn new(layouts: Vec<Layout>) -> Result<Self, Conflict> {
        if let Some(i) = layouts.iter().position(|layout| !layout.is_injective()) {
            return Err(Conflict::Within(i));
        }
        let mut order: Vec<_> =
            (0..layouts.len()).filter(|&i| !layouts[i].is_empty()).map(|i| (layouts[i].extent().0, 0, i)).collect();
        order.sort_unstable();
        let mut end = 0;
        for entry in &mut order {
            end = end.max(layouts[entry.2].extent().1);
            entry.1 = end;
        }
        let territory = Self { order, layouts };
        for (place, &(_, _, i)) in territory.order.iter().enumerate() {
            if let Some(j) = territory.find_before(&territory.layouts[i], place) {
                return Err(Conflict::Between(i.min(j), i.max(j)));
            }
        }
        Ok(territory)
    }

    /// The array that shares an element with `layout`, if there is one.
    #[must_use]
    pub fn find(&self, layout: &Layout) -> Option<usize> {
        let (low, high) = layout.extent();
        if low == high { None } else { self.find_before(layout, self.order.partition_point(|entry| entry.0 < high)) }
    }

    /// The same among the first `place` arrays by address.
    fn find_before(&self, layout: &Layout, place: usize) -> Option<usize> {
        let low = layout.extent().0;
        let near = self.order[..place].iter().rev().take_while(|entry| entry.1 > low);
        near.map(|entry| entry.2).find(|&i| self.layouts[i].overlaps(layout))
    }

    /// Is there nothing of these arrays between the two addresses? Quick, and may say no without need.
    #[must_use]
    pub fn is_clear(&self, low: usize, high: usize) -> bool {
        let place = self.order.partition_point(|entry| entry.0 < high);
        place == 0 || self.order[place - 1].1 <= low
    }
}

/// An order in which the elements of several arrays of one shape are visited, axes merged where all arrays allow it.
#[derive(Clone, Debug)]
pub struct Walk {
    /// Elements along each axis, outermost first.
    shape: Axes<usize>,
    /// For each array the bytes from one element to the next along each axis.
    strides: SmallVec<[Axes<isize>; 1]>,
    /// For each array the bytes from its first element to the first of the walk: axes that run backwards start at their end.
    starts: SmallVec<[isize; 1]>,
}

impl Walk {
    /// The order of the first array's memory, backward axes turned forward; the others follow.
    #[must_use]
    pub fn by_memory(shape: &[usize], strides: &[&[isize]]) -> Self {
        let mut axes: Axes<usize> = (0..shape.len()).filter(|&axis| shape[axis] != 1).collect();
        axes.sort_by_key(|&axis| std::cmp::Reverse(strides[0][axis].unsigned_abs()));
        let mut walk = Self {
            shape: smallvec![],
            strides: smallvec![smallvec![]; strides.len()],
            starts: smallvec![0; strides.len()],
        };
        for &axis in &axes {
            let backward = strides[0][axis] < 0;
            walk.shape.push(shape[axis]);
            for (array, all) in strides.iter().enumerate() {
                let stride = all[axis];
                walk.strides[array].push(if backward { -stride } else { stride });
                walk.starts[array] += if backward { (shape[axis] as isize - 1) * stride } else { 0 };
            }
        }
        walk.merged()
    }

    /// C order.
    #[must_use]
    pub fn logical(shape: &[usize], strides: &[&[isize]]) -> Self {
        let axes: Axes<usize> = (0..shape.len()).filter(|&axis| shape[axis] != 1).collect();
        let of = |strides: &&[isize]| axes.iter().map(|&axis| strides[axis]).collect();
        Self {
            shape: axes.iter().map(|&axis| shape[axis]).collect(),
            strides: strides.iter().map(of).collect(),
            starts: smallvec![0; strides.len()],
        }
        .merged()
    }

    /// Joins neighbouring axes that every array runs through evenly.
    fn merged(mut self) -> Self {
        for axis in (1..self.shape.len()).rev() {
            let n = self.shape[axis] as isize;
            if self.strides.iter().all(|strides| strides[axis - 1] == n * strides[axis]) {
                let inner = self.shape.remove(axis);
                self.shape[axis - 1] *= inner;
                for strides in &mut self.strides {
                    strides.remove(axis - 1);
                }
            }
        }
        self
    }

    /// Do the elements of the array follow each other without a gap?
    #[must_use]
    pub fn is_dense(&self, array: usize, item: usize) -> bool {
        match self.strides[array][..] {
            [] => true,
            [stride] => stride == item as isize,
            _ => false,
        }
    }

    /// Elements along each axis, outermost first.
    #[must_use]
    pub fn lengths(&self) -> &[usize] {
        &self.shape
    }

    /// The array's bytes from one element to the next along each axis.
    #[must_use]
    pub fn strides(&self, array: usize) -> &[isize] {
        &self.strides[array]
    }

    /// Bytes from the array's first element to the first of the walk.
    #[must_use]
    pub fn start(&self, array: usize) -> isize {
        self.starts[array]
    }

    /// Bytes from the array's first element to the walk's element `i`.
    #[must_use]
    pub fn offset(&self, i: usize, array: usize) -> isize {
        self.run(i, array).0
    }

    /// From element `i` on: bytes to it, how many elements follow evenly (itself counted), and bytes between them.
    #[must_use]
    pub fn run(&self, mut i: usize, array: usize) -> (isize, usize, isize) {
        let (mut offset, mut even, mut step) = (self.starts[array], 1, 0);
        for axis in (0..self.shape.len()).rev() {
            let (n, stride) = (self.shape[axis], self.strides[array][axis]);
            offset += (i % n) as isize * stride;
            if axis == self.shape.len() - 1 {
                (even, step) = (n - i % n, stride);
            }
            i /= n;
        }
        (offset, even, step)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn layout(address: usize, item: usize, shape: &[usize], strides: &[isize]) -> Layout {
        Layout { address, item, shape: shape.into(), strides: strides.into() }
    }

    #[test]
    fn interleaved_columns_are_apart_and_overlapping_ones_are_not() {
        let left = layout(1000, 4, &[8, 4], &[32, 4]);
        let right = layout(1016, 4, &[8, 4], &[32, 4]);
        let across = layout(1012, 4, &[8, 4], &[32, 4]);
        assert!(!left.overlaps(&right) && left.overlaps(&across) && across.overlaps(&right));
        assert!(left.is_apart_by_residues(&right));
        let (even, odd) = (layout(0, 4, &[50], &[8]), layout(396, 4, &[50], &[-8]));
        assert!(even.is_apart_by_residues(&odd) && !even.overlaps(&odd));
    }

    #[test]
    fn windows_repeat_elements_and_coprime_strides_need_not() {
        assert!(!layout(0, 4, &[3, 3], &[4, 4]).is_injective());
        assert!(!layout(0, 4, &[4], &[0]).is_injective());
        assert!(layout(0, 4, &[1, 5], &[0, 4]).is_injective());
        assert!(layout(0, 4, &[2, 3], &[12, 8]).is_injective());
        assert!(!layout(0, 4, &[2, 4], &[12, 4]).is_injective());
    }

    #[test]
    fn a_walk_by_memory_turns_axes_forward_and_merges_them() {
        let fortran_reversed: &[isize] = &[-4, 24];
        let walk = Walk::by_memory(&[6, 5], &[fortran_reversed, fortran_reversed]);
        assert!(walk.is_dense(0, 4) && walk.is_dense(1, 4));
        assert_eq!((walk.start(0), walk.offset(7, 0)), (-20, 8));
    }
}
