//! The filter of system calls: what no service needs and an attacker does.
//!
//! It is a list of what is refused, not of what is allowed: a list of what is allowed breaks programs
//! with each new libc, and what is left over here are calls that need rights which the program does
//! not have. Refused is what has been the way out of containers again and again: other processes'
//! memory, new namespaces and mounts, the kernel's keys, its programs (BPF), its rarely used doors.
//! What is refused answers "not permitted", as for a user without rights.

use std::collections::BTreeMap;
use std::io;

use seccompiler::{
    BpfProgram, SeccompAction, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition, SeccompFilter, SeccompRule, TargetArch,
};

/// Refused whatever is asked.
const REFUSED: &[libc::c_long] = &[
    // Other processes, and their memory.
    libc::SYS_ptrace,
    libc::SYS_process_vm_readv,
    libc::SYS_process_vm_writev,
    libc::SYS_kcmp,
    libc::SYS_pidfd_getfd,
    // Namespaces and mounts.
    libc::SYS_unshare,
    libc::SYS_setns,
    libc::SYS_mount,
    libc::SYS_umount2,
    libc::SYS_pivot_root,
    libc::SYS_chroot,
    libc::SYS_fsopen,
    libc::SYS_fsconfig,
    libc::SYS_fsmount,
    libc::SYS_fspick,
    libc::SYS_open_tree,
    libc::SYS_move_mount,
    libc::SYS_mount_setattr,
    libc::SYS_name_to_handle_at,
    libc::SYS_open_by_handle_at,
    libc::SYS_quotactl,
    libc::SYS_swapon,
    libc::SYS_swapoff,
    // The kernel itself.
    libc::SYS_bpf,
    libc::SYS_perf_event_open,
    libc::SYS_userfaultfd,
    libc::SYS_io_uring_setup,
    libc::SYS_io_uring_enter,
    libc::SYS_io_uring_register,
    libc::SYS_add_key,
    libc::SYS_request_key,
    libc::SYS_keyctl,
    libc::SYS_init_module,
    libc::SYS_finit_module,
    libc::SYS_delete_module,
    libc::SYS_kexec_load,
    libc::SYS_reboot,
    libc::SYS_syslog,
    libc::SYS_acct,
    libc::SYS_vhangup,
    libc::SYS_personality,
    libc::SYS_lookup_dcookie,
    libc::SYS_nfsservctl,
    // The machine's clock and name.
    libc::SYS_settimeofday,
    libc::SYS_clock_settime,
    libc::SYS_clock_adjtime,
    libc::SYS_adjtimex,
    libc::SYS_sethostname,
    libc::SYS_setdomainname,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_iopl,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_ioperm,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_modify_ldt,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_uselib,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_ustat,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_sysfs,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_kexec_file_load,
];

/// Flags of `clone` that make a namespace.
const NAMESPACES: &[libc::c_int] = &[
    libc::CLONE_NEWNS,
    libc::CLONE_NEWPID,
    libc::CLONE_NEWUSER,
    libc::CLONE_NEWIPC,
    libc::CLONE_NEWNET,
    libc::CLONE_NEWUTS,
    libc::CLONE_NEWCGROUP,
];

/// Families of sockets that reach into the kernel and that no service speaks.
const FAMILIES: &[libc::c_int] =
    &[libc::AF_ALG, libc::AF_VSOCK, libc::AF_PACKET, libc::AF_KEY, libc::AF_BLUETOOTH, libc::AF_CAN, libc::AF_RDS];

/// Characters put into a terminal's input, as if a person had typed them.
const TERMINAL: &[u64] = &[0x5412, 0x541c];

/// On x86-64 the same calls have a second set of numbers, which hardly any kernel answers.
#[cfg(target_arch = "x86_64")]
const SECOND_NUMBERS: libc::c_long = 0x4000_0000;

type Rules = BTreeMap<i64, Vec<SeccompRule>>;

/// Sets the filter for this process and all that it starts. Nothing takes it away again.
pub fn set() -> io::Result<()> {
    let refuse = |errno: libc::c_int| SeccompAction::Errno(errno.unsigned_abs());
    for (rules, action) in [
        // Its flags stand in memory, where no filter can see them: libc takes `clone` instead.
        (Rules::from([(libc::SYS_clone3, Vec::new())]), refuse(libc::ENOSYS)),
        (rules()?, refuse(libc::EPERM)),
    ] {
        let arch = TargetArch::try_from(std::env::consts::ARCH).map_err(io::Error::other)?;
        let filter = SeccompFilter::new(with_second(rules), SeccompAction::Allow, action, arch);
        let program: BpfProgram = filter.and_then(TryInto::try_into).map_err(io::Error::other)?;
        seccompiler::apply_filter(&program).map_err(io::Error::other)?;
    }
    Ok(())
}

fn rules() -> io::Result<Rules> {
    let mut rules: Rules = REFUSED.iter().map(|number| (*number, Vec::new())).collect();
    let has = |argument, bits: libc::c_int| {
        let bits = u64::from(bits.unsigned_abs());
        one(argument, SeccompCmpOp::MaskedEq(bits), bits)
    };
    let is = |argument, value| one(argument, SeccompCmpOp::Eq, value);
    let namespaces = NAMESPACES.iter().map(|flag| has(0, *flag)).collect::<io::Result<_>>()?;
    let families = FAMILIES.iter().map(|family| is(0, u64::from(family.unsigned_abs()))).collect::<io::Result<_>>()?;
    let terminal = TERMINAL.iter().map(|request| is(1, *request)).collect::<io::Result<_>>()?;
    rules.extend([(libc::SYS_clone, namespaces), (libc::SYS_socket, families), (libc::SYS_ioctl, terminal)]);
    Ok(rules)
}

fn one(argument: u8, op: SeccompCmpOp, value: u64) -> io::Result<SeccompRule> {
    let condition = SeccompCondition::new(argument, SeccompCmpArgLen::Dword, op, value);
    condition.and_then(|condition| SeccompRule::new(vec![condition])).map_err(io::Error::other)
}

#[cfg(target_arch = "x86_64")]
fn with_second(mut rules: Rules) -> Rules {
    let second: Rules = rules.iter().map(|(number, rules)| (number | SECOND_NUMBERS, rules.clone())).collect();
    rules.extend(second);
    rules
}

#[cfg(not(target_arch = "x86_64"))]
fn with_second(rules: Rules) -> Rules {
    rules
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_can_be_compiled_for_this_machine() {
        let arch = TargetArch::try_from(std::env::consts::ARCH).unwrap();
        let filter =
            SeccompFilter::new(with_second(rules().unwrap()), SeccompAction::Allow, SeccompAction::Trap, arch).unwrap();
        let program: BpfProgram = filter.try_into().unwrap();
        assert!(program.len() > REFUSED.len());
    }
}
