//! Two network namespaces and a virtual cable between them: machines that share nothing but a wire.
//!
//! They have no names: each lives as long as the process that holds it, and that one ends when its
//! standard input does, so nothing is left of a test however it dies.

use std::{
    ffi::OsStr,
    io::{self, BufRead as _, BufReader},
    net::Ipv4Addr,
    process::{Child, Command, Stdio},
};

/// Two machines on one wire.
#[derive(Debug)]
pub struct Cable {
    /// One end.
    pub near: Machine,
    /// The other.
    pub far: Machine,
}

/// A network namespace with one interface besides its loopback.
#[derive(Debug)]
pub struct Machine {
    holder: Child,
    /// Address of its interface.
    pub address: Ipv4Addr,
}

/// Name of the interface in each namespace.
const INTERFACE: &str = "wire";

impl Cable {
    /// Makes two namespaces and joins them.
    ///
    /// # Errors
    ///
    /// When this machine or user may not have namespaces.
    pub fn lay() -> io::Result<Self> {
        let near = Machine::new(Ipv4Addr::new(192, 0, 2, 1))?;
        let far = Machine::new(Ipv4Addr::new(192, 0, 2, 2))?;
        let there = far.holder.id().to_string();
        let link = ["link", "add", INTERFACE, "type", "veth", "peer", "name", INTERFACE];
        near.run(Command::new("ip").args(link).args(["netns", &there]))?;
        for machine in [&near, &far] {
            let address = format!("{}/24", machine.address);
            machine.run(Command::new("ip").args(["address", "add", &address, "dev", INTERFACE]))?;
            machine.run(Command::new("ip").args(["link", "set", INTERFACE, "up"]))?;
        }
        Ok(Self { near, far })
    }
}

impl Machine {
    /// Makes a machine that no wire leads to: its loopback alone, with `address` as its name.
    ///
    /// # Errors
    ///
    /// When this machine or user may not have namespaces.
    pub fn new(address: Ipv4Addr) -> io::Result<Self> {
        let script = "ip link set lo up && echo ready && exec cat";
        let mut holder = Command::new("unshare");
        holder.args(["--net", "sh", "-c", script]);
        holder.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null());
        let mut machine = Self { holder: holder.spawn()?, address };
        let mut line = String::new();
        let said = machine.holder.stdout.take().expect("it is piped");
        BufReader::new(said).read_line(&mut line)?;
        if line.trim() == "ready" {
            Ok(machine)
        } else {
            Err(io::Error::other("network namespaces are refused"))
        }
    }

    /// Returns a command that runs a program on this machine; its process is the program itself.
    pub fn command(&self, program: impl AsRef<OsStr>) -> Command {
        let mut command = Command::new("nsenter");
        command.args(["--target", &self.holder.id().to_string(), "--net"]).arg(program);
        command
    }

    fn run(&self, command: &Command) -> io::Result<()> {
        let mut inside = self.command(command.get_program());
        let output = inside.args(command.get_args()).output()?;
        let said = || String::from_utf8_lossy(&output.stderr).into_owned();
        if output.status.success() { Ok(()) } else { Err(io::Error::other(said())) }
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        // An error means that it has ended already.
        drop(self.holder.kill());
        drop(self.holder.wait());
    }
}
