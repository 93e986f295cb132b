//! The floating-point environment that every result is computed in, whatever the caller has set.
#![allow(unsafe_code)]

/// Round to nearest, denormals kept, nothing trapped; on drop what was there before.
#[derive(Debug)]
pub struct DefaultFloatEnvironment {
    found: u64,
}

impl DefaultFloatEnvironment {
    /// Sets the default environment on this thread.
    #[must_use]
    pub fn enter() -> Self {
        let found = read_control();
        write_control(DEFAULT_CONTROL);
        Self { found }
    }
}

impl Drop for DefaultFloatEnvironment {
    fn drop(&mut self) {
        write_control(self.found);
    }
}

/// MXCSR with all exceptions masked.
#[cfg(target_arch = "x86_64")]
const DEFAULT_CONTROL: u64 = 0x1f80;
#[cfg(target_arch = "aarch64")]
const DEFAULT_CONTROL: u64 = 0;

#[cfg(target_arch = "x86_64")]
fn read_control() -> u64 {
    let mut mxcsr = 0_u32;
    // SAFETY: stores MXCSR to the given four bytes.
    unsafe { std::arch::asm!("stmxcsr [{}]", in(reg) &raw mut mxcsr, options(nostack, preserves_flags)) };
    u64::from(mxcsr)
}

#[cfg(target_arch = "x86_64")]
fn write_control(control: u64) {
    let mxcsr = control as u32;
    // SAFETY: loads a value that is the default or came from `read_control`; no reserved bit is set.
    unsafe { std::arch::asm!("ldmxcsr [{}]", in(reg) &raw const mxcsr, options(nostack, preserves_flags)) };
}

#[cfg(target_arch = "aarch64")]
fn read_control() -> u64 {
    let control: u64;
    // SAFETY: FPCR is readable at user level.
    unsafe { std::arch::asm!("mrs {}, fpcr", out(reg) control, options(nomem, nostack, preserves_flags)) };
    control
}

#[cfg(target_arch = "aarch64")]
fn write_control(control: u64) {
    // SAFETY: FPCR is writable at user level; the value is the default or came from `read_control`.
    unsafe { std::arch::asm!("msr fpcr, {}", in(reg) control, options(nomem, nostack, preserves_flags)) };
}
