//! The CPU level, chosen once: the best this machine has, lowered by `STEPSMITH_ISA`.

use std::sync::OnceLock;

use fearless_simd::{Level, prelude::*};

use crate::error::Error;

/// Vectors a tile: enough independent work to hide the latency of a division and a square root.
pub const TILE_VECTORS: usize = 4;

/// A tile: four native vectors of `T`.
pub type Tile<S, T> = [<T as SimdFloatElement>::Native<S>; TILE_VECTORS];

/// Elements of a tile of `T` at the level of `S`.
#[inline(always)]
#[must_use]
pub const fn tile_len<S: Simd, T: SimdFloatElement>() -> usize {
    TILE_VECTORS * <T::Native<S> as SimdBase<S>>::LEN
}

/// A CPU level and the proof that this CPU has it.
#[derive(Clone, Copy, Debug)]
pub enum Isa {
    /// What every CPU of the architecture has: SSE2 on x86-64, NEON on aarch64.
    #[cfg(target_arch = "x86_64")]
    Baseline(fearless_simd::Sse2),
    /// 256-bit vectors.
    #[cfg(target_arch = "x86_64")]
    Avx2(fearless_simd::Avx2),
    /// 512-bit vectors, Ice Lake and Zen 4 or later.
    #[cfg(target_arch = "x86_64")]
    Avx512(fearless_simd::Avx512),
    /// What every CPU of the architecture has.
    #[cfg(target_arch = "aarch64")]
    Neon(fearless_simd::Neon),
}

/// Runs an expression inside a function compiled for the given level, `simd` being the level's token.
#[macro_export]
macro_rules! dispatch {
    ($isa:expr, $simd:ident => $body:expr) => {{
        use fearless_simd::Simd as _;
        match $isa {
            #[cfg(target_arch = "x86_64")]
            $crate::simd::Isa::Baseline($simd) => $simd.vectorize(
                #[inline(always)]
                || $body,
            ),
            #[cfg(target_arch = "x86_64")]
            $crate::simd::Isa::Avx2($simd) => $simd.vectorize(
                #[inline(always)]
                || $body,
            ),
            #[cfg(target_arch = "x86_64")]
            $crate::simd::Isa::Avx512($simd) => $simd.vectorize(
                #[inline(always)]
                || $body,
            ),
            #[cfg(target_arch = "aarch64")]
            $crate::simd::Isa::Neon($simd) => $simd.vectorize(
                #[inline(always)]
                || $body,
            ),
        }
    }};
}

impl Isa {
    /// The levels of this CPU, lowest first.
    #[must_use]
    pub fn available() -> Vec<Self> {
        let best = Level::new();
        #[cfg(target_arch = "x86_64")]
        let levels =
            [best.as_sse2().map(Self::Baseline), best.as_avx2().map(Self::Avx2), best.as_avx512().map(Self::Avx512)];
        #[cfg(target_arch = "aarch64")]
        let levels = [best.as_neon().map(Self::Neon)];
        levels.into_iter().flatten().collect()
    }

    /// The name that `STEPSMITH_ISA` uses.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            #[cfg(target_arch = "x86_64")]
            Self::Baseline(_) => "baseline",
            #[cfg(target_arch = "x86_64")]
            Self::Avx2(_) => "avx2",
            #[cfg(target_arch = "x86_64")]
            Self::Avx512(_) => "avx512",
            #[cfg(target_arch = "aarch64")]
            Self::Neon(_) => "neon",
        }
    }

    /// The level in use, or why the wish in `STEPSMITH_ISA` cannot be met.
    pub fn current() -> Result<Self, Error> {
        static CHOSEN: OnceLock<Result<Isa, Error>> = OnceLock::new();
        let wish = || std::env::var_os("STEPSMITH_ISA").map(|name| name.to_string_lossy().into_owned());
        CHOSEN.get_or_init(|| Self::choose(wish().as_deref())).clone()
    }

    /// The level of that name, or the best one without a wish.
    pub fn choose(wish: Option<&str>) -> Result<Self, Error> {
        let available = Self::available();
        let found = match wish {
            None | Some("") => available.last().copied(),
            Some("baseline") => available.first().copied(),
            Some(name) => available.iter().copied().find(|isa| isa.name() == name),
        };
        found.ok_or_else(|| Error::Isa {
            wish: wish.unwrap_or_default().to_owned(),
            available: available.iter().map(|isa| isa.name()).collect(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn choose_takes_the_best_without_a_wish_and_refuses_an_unknown_one() {
        let best = Isa::choose(None).unwrap();
        assert_eq!(best.name(), Isa::available().last().unwrap().name());
        for isa in Isa::available() {
            assert_eq!(Isa::choose(Some(isa.name())).unwrap().name(), isa.name());
        }
        let error = Isa::choose(Some("avx1024")).unwrap_err().to_string();
        assert!(error.contains("STEPSMITH_ISA") && error.contains("avx1024") && error.contains(best.name()), "{error}");
    }
}
