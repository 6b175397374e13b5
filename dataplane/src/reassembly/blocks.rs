//! Memory in blocks of one size, of which each fragment has a chain.

/// Bytes of a block.
pub(super) const BYTES: usize = 512;

/// The first of a chain of blocks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Chain(u32);

/// All blocks.
#[derive(Debug)]
pub(super) struct Blocks {
    bytes: Box<[u8]>,
    /// What follows each in its chain.
    next: Box<[u32]>,
    /// Those that were used and are not.
    unused: Vec<u32>,
    /// From here on none was ever used.
    fresh: u32,
    /// Not in a chain and not reserved.
    free: usize,
}

impl Blocks {
    /// So many, which no memory stands for until they are used.
    pub(super) fn new(count: usize) -> Self {
        Self {
            bytes: vec![0; count * BYTES].into(),
            next: vec![0; count].into(),
            unused: Vec::with_capacity(count),
            fresh: 0,
            free: count,
        }
    }

    /// How many hold so many bytes.
    pub(super) const fn for_bytes(bytes: usize) -> usize {
        bytes.div_ceil(BYTES)
    }

    /// How many there are.
    pub(super) const fn all(&self) -> usize {
        self.next.len()
    }

    /// How many may be taken.
    pub(super) const fn free(&self) -> usize {
        self.free
    }

    /// Counts so many as taken, for what lies elsewhere.
    pub(super) const fn reserve(&mut self, count: usize) {
        self.free -= count;
    }

    /// Undoes [`reserve`](Self::reserve).
    pub(super) const fn release(&mut self, count: usize) {
        self.free += count;
    }

    /// Puts bytes into a chain, for which so many blocks as they need are free.
    pub(super) fn put(&mut self, data: &[u8]) -> Chain {
        let mut first = Chain(0);
        let mut before = None;
        for part in data.chunks(BYTES) {
            let block = self.unused.pop().unwrap_or_else(|| {
                self.fresh += 1;
                self.fresh - 1
            });
            self.free -= 1;
            self.bytes[block as usize * BYTES..][..part.len()].copy_from_slice(part);
            match before {
                Some(before) => self.next[before as usize] = block,
                None => first = Chain(block),
            }
            before = Some(block);
        }
        first
    }

    /// The blocks of a chain of so many bytes.
    fn of(&self, chain: Chain, length: usize) -> impl Iterator<Item = u32> + use<'_> {
        let blocks = std::iter::successors(Some(chain.0), |block| Some(self.next[*block as usize]));
        blocks.take(Self::for_bytes(length))
    }

    /// Copies a chain of as many bytes as there is place for.
    pub(super) fn copy(&self, chain: Chain, place: &mut [u8]) {
        let blocks = self.of(chain, place.len());
        for (block, part) in blocks.zip(place.chunks_mut(BYTES)) {
            part.copy_from_slice(&self.bytes[block as usize * BYTES..][..part.len()]);
        }
    }

    /// Takes a chain of so many bytes back.
    pub(super) fn free_chain(&mut self, chain: Chain, length: usize) {
        let mut block = chain.0;
        for _ in 0..Self::for_bytes(length) {
            self.unused.push(block);
            self.free += 1;
            block = self.next[block as usize];
        }
    }
}
