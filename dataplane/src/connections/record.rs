//! A connection, or a template, outside its table: what another process or another director has to know of it. It holds no place, no
//! tick and no hash of this process; a real server is named by `R`: by its number within one process ([`RealId`]), by its
//! [`RealName`](crate::snapshot::RealName) beyond it.
//!
//! A table gives records out ([`Table::export`]), another one takes them in ([`Table::admit`]): templates first, since a connection
//! names the template that controls it. What a table keeps for itself alone is not carried: which of the connections that can be
//! given up is the oldest, and, where the answers of three or more connections look the same, the order of all but the first.

use crate::address::Address;
use crate::flow::Flow;
use crate::id::{L4Port, Protocol, RealId};
use crate::service::Method;
use crate::time::{Tick, Ticks};

use super::entry::Entry;
use super::sctp_state::SctpState;
use super::table::{ConnectionIndex, Ending, Full, Limits, Table};
use super::tcp_state::TcpState;
use super::templates::{Template, TemplateKey};

/// The longest time that a record can have left: moments that are further apart do not compare ([`Tick`]).
const LEFT_MAX: Ticks = Ticks(u32::MAX >> 1);

/// A connection or a template.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Record<A, R = RealId> {
    /// A connection.
    Connection(ConnectionRecord<A, R>),
    /// A persistence template.
    Template(TemplateRecord<A, R>),
}

/// A connection outside its table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ConnectionRecord<A, R = RealId> {
    /// The client's address.
    pub client: A,
    /// The client's port.
    pub client_port: L4Port,
    /// The virtual IP address.
    pub vip: A,
    /// The port that the client asked for.
    pub vip_port: L4Port,
    /// The real server.
    pub real: R,
    /// Its address; that of no host where a tunnel leads to the other family.
    pub real_address: A,
    /// Its port.
    pub real_port: L4Port,
    /// How its packets reach the real server.
    pub method: Method,
    /// The protocol, and its state.
    pub state: State,
    /// What else is known of it.
    pub marks: Marks,
    /// The template that controls it.
    pub template: Control<A>,
    /// It ends after this time unless a packet comes.
    pub left: Ticks,
}

/// A protocol, and the state of a connection of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// TCP.
    Tcp(TcpState),
    /// UDP; whether a packet was seen.
    Udp {
        /// One was.
        seen: bool,
    },
    /// SCTP.
    Sctp(SctpState),
    /// ICMP echo of a masqueraded host; whether a packet was seen.
    Icmp {
        /// One was.
        seen: bool,
    },
}

impl State {
    /// The protocol.
    #[must_use]
    pub const fn protocol(self) -> Protocol {
        match self {
            Self::Tcp(_) => Protocol::Tcp,
            Self::Udp { .. } => Protocol::Udp,
            Self::Sctp(_) => Protocol::Sctp,
            Self::Icmp { .. } => Protocol::Icmp,
        }
    }

    /// True when a connection in it counts as active.
    #[must_use]
    pub const fn is_active(self) -> bool {
        match self {
            Self::Tcp(state) => state.is_active(),
            Self::Sctp(state) => matches!(state, SctpState::Established),
            Self::Udp { .. } | Self::Icmp { .. } => false,
        }
    }
}

/// What matters of a connection beside its state.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Marks {
    /// More than its beginning was seen: it is no longer half-open, and not of one packet.
    pub opened: bool,
    /// NAT: the real server answered the SYN. DR and TUN: answers come by the director (kernel: not `IP_VS_CONN_F_NOOUTPUT`).
    pub answered: bool,
    /// What becomes of it says something of its real server.
    pub judged: bool,
    /// The client is the host that is masqueraded, not who is asked.
    pub masqueraded: bool,
    /// Of NAT connections whose answers look the same this is the one that they are taken for; true where there is only one.
    pub foremost: bool,
}

/// Whether a template controls a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Control<A> {
    /// None does.
    Free,
    /// This one does.
    By(TemplateKey<A>),
    /// One does that no client finds any more.
    Stale,
}

/// A template outside its table: one that clients find.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TemplateRecord<A, R = RealId> {
    /// By what it is found.
    pub key: TemplateKey<A>,
    /// The real server.
    pub real: R,
    /// Its address.
    pub real_address: A,
    /// Its port; 0 when connections keep theirs.
    pub real_port: L4Port,
    /// How long it lives after the last connection was made.
    pub timeout: Ticks,
    /// It ends after this time unless connections are made by it or live.
    pub left: Ticks,
    /// One of its connections was open (kernel: `IP_VS_CTPL_S_ASSURED`).
    pub assured: bool,
    /// More than the beginning of one of its connections was seen.
    pub opened: bool,
}

impl<A: Address, R> ConnectionRecord<A, R> {
    /// The flow as the client sends it.
    #[must_use]
    pub const fn client_flow(&self) -> Flow<A> {
        Flow {
            source: self.client,
            destination: self.vip,
            source_port: self.client_port,
            destination_port: self.vip_port,
            protocol: self.state.protocol(),
        }
    }
}

impl<A: Address, R: Copy> Record<A, R> {
    /// The client, by whom the worker is found that owns it.
    #[must_use]
    pub const fn client(&self) -> A {
        match self {
            Self::Connection(connection) => connection.client,
            Self::Template(template) => template.key.client,
        }
    }

    /// The real server.
    #[must_use]
    pub const fn real(&self) -> R {
        match self {
            Self::Connection(connection) => connection.real,
            Self::Template(template) => template.real,
        }
    }

    /// The real server's address.
    #[must_use]
    pub const fn real_address(&self) -> A {
        match self {
            Self::Connection(connection) => connection.real_address,
            Self::Template(template) => template.real_address,
        }
    }

    /// The time that it has left.
    #[must_use]
    pub const fn left(&self) -> Ticks {
        match self {
            Self::Connection(connection) => connection.left,
            Self::Template(template) => template.left,
        }
    }

    /// The same with another name of the same real server.
    #[must_use]
    pub fn with_real<Q>(&self, real: Q) -> Record<A, Q> {
        match *self {
            Self::Connection(ConnectionRecord {
                client,
                client_port,
                vip,
                vip_port,
                real: _,
                real_address,
                real_port,
                method,
                state,
                marks,
                template,
                left,
            }) => Record::Connection(ConnectionRecord {
                client,
                client_port,
                vip,
                vip_port,
                real,
                real_address,
                real_port,
                method,
                state,
                marks,
                template,
                left,
            }),
            Self::Template(TemplateRecord {
                key,
                real: _,
                real_address,
                real_port,
                timeout,
                left,
                assured,
                opened,
            }) => Record::Template(TemplateRecord {
                key,
                real,
                real_address,
                real_port,
                timeout,
                left,
                assured,
                opened,
            }),
        }
    }
}

/// How far a table was given out.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Exported {
    templates: usize,
    connections: usize,
}

/// The moment that is so far away.
fn moment(now: Tick, left: Ticks) -> Tick {
    now.after(left.min(LEFT_MAX))
}

impl<A: Address> Table<A> {
    /// Calls `each` with the records of what lives among the next `budget` places, templates first, on from where `exported` says.
    /// False when all was given out. What is made or ends meanwhile may be missed or not.
    pub fn export(
        &self,
        exported: &mut Exported,
        budget: usize,
        now: Tick,
        mut each: impl FnMut(Record<A>),
    ) -> bool {
        let start = exported.templates;
        let more = self.templates().list(&mut exported.templates, budget, now, |template| {
            if let Some(record) = template.record(now) {
                each(Record::Template(record));
            }
        });
        if more {
            return true;
        }
        let budget = budget - (exported.templates - start).min(budget);
        let end = exported.connections.saturating_add(budget).min(self.high_water as usize);
        for place in exported.connections..end {
            let entry = &self.entries[place];
            if entry.in_use() && !entry.is_expired(now) {
                each(Record::Connection(self.record(ConnectionIndex(place as u32), now)));
            }
        }
        exported.connections = end;
        end < self.high_water as usize
    }

    /// The record of a connection.
    #[must_use]
    pub fn record(&self, index: ConnectionIndex, now: Tick) -> ConnectionRecord<A> {
        let entry = self.entry(index);
        let template = match self.templates().of(index) {
            _ if !entry.is_controlled() => Control::Free,
            Some(template) if !template.is_stale() => Control::By(*template.key()),
            Some(_) | None => Control::Stale,
        };
        let Flow { source, destination, source_port, destination_port, .. } = entry.client_flow();
        ConnectionRecord {
            client: source,
            client_port: source_port,
            vip: destination,
            vip_port: destination_port,
            real: entry.real(),
            real_address: entry.real_address(),
            real_port: entry.real_port(),
            method: entry.method(),
            state: entry.protocol_state(),
            marks: Marks { foremost: self.is_foremost(index, now), ..entry.marks() },
            template,
            left: entry.expires().remaining(now),
        }
    }

    /// Takes a connection or a template in as its record says, with the time that it has left. One that is here already by the same
    /// flow, or the same key and another real server, ends for it. `ended` and `template_ended` see what ends.
    ///
    /// # Errors
    /// Why there is no room for it.
    pub fn admit(
        &mut self,
        record: &Record<A>,
        limits: &Limits<'_, A>,
        now: Tick,
        ended: impl FnMut(&Entry<A>, Ending),
        template_ended: impl FnMut(&Template<A>, Ending),
    ) -> Result<Admitted, Full> {
        match record {
            Record::Connection(record) => {
                let index = self.admit_connection(record, limits, now, ended)?;
                Ok(Admitted::Connection(index))
            }
            Record::Template(record) => self.admit_template(record, limits, now, ended, template_ended),
        }
    }

    fn admit_connection(
        &mut self,
        record: &ConnectionRecord<A>,
        limits: &Limits<'_, A>,
        now: Tick,
        ended: impl FnMut(&Entry<A>, Ending),
    ) -> Result<ConnectionIndex, Full> {
        let mut entry = Entry::of_record(record);
        entry.set_expires(moment(now, record.left));
        let rank = entry.rank();
        let index = self.put(entry, rank, record.marks.foremost, limits, now, ended)?;
        if let Control::By(key) = &record.template {
            let templates = self.templates();
            let template =
                templates.find(key, now).filter(|found| templates.get(*found).real() == record.real);
            if let Some(template) = template {
                self.templates_mut().attach(template, index);
            }
        }
        Ok(index)
    }

    fn admit_template(
        &mut self,
        record: &TemplateRecord<A>,
        limits: &Limits<'_, A>,
        now: Tick,
        ended: impl FnMut(&Entry<A>, Ending),
        template_ended: impl FnMut(&Template<A>, Ending),
    ) -> Result<Admitted, Full> {
        let expires = moment(now, record.left);
        let found = self.templates().find(&record.key, now);
        if let Some(found) = found {
            if self.templates().get(found).real() == record.real {
                self.templates_mut().renew(found, record, expires);
                return Ok(Admitted::KnownTemplate);
            }
            self.templates_mut().set_stale(found);
        }
        let made = self.make_template(&record.into(), limits, now, ended, template_ended)?;
        self.templates_mut().renew(made, record, expires);
        Ok(Admitted::Template)
    }
}

/// What was taken in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Admitted {
    /// A connection.
    Connection(ConnectionIndex),
    /// A template that was not there.
    Template,
    /// News of a template that was there.
    KnownTemplate,
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use super::super::table::NewConnection;
    use super::super::templates::NewTemplate;
    use super::super::{Direction, Timeouts};
    use super::*;
    use crate::flow::HashKey;

    const NOW: Tick = Tick(1000);

    fn connection(vip_port: u16, client_port: u16) -> NewConnection<Ipv4Addr> {
        NewConnection {
            flow: Flow {
                source: Ipv4Addr::new(198, 51, 100, 1),
                destination: Ipv4Addr::new(192, 0, 2, 10),
                source_port: L4Port(client_port),
                destination_port: L4Port(vip_port),
                protocol: Protocol::Tcp,
            },
            real: RealId(1),
            real_address: Ipv4Addr::new(10, 1, 0, 1),
            real_port: L4Port(8080),
            method: Method::Nat,
            masqueraded: false,
        }
    }

    fn table(capacity: u32) -> Table<Ipv4Addr> {
        Table::new(capacity, HashKey::random())
    }

    fn make(table: &mut Table<Ipv4Addr>, new: &NewConnection<Ipv4Addr>, packets: &[u8]) -> ConnectionIndex {
        let index = table.insert(new, &Limits::NONE, NOW, |_, _| panic!("none ends")).unwrap();
        for flags in packets {
            let (entry, beside) = table.entry_and_beside(index);
            let change = entry.observe(*flags, Direction::FromClient, NOW, &Timeouts::default());
            beside.follow(index, entry, change);
        }
        index
    }

    fn exported(table: &Table<Ipv4Addr>, now: Tick) -> Vec<Record<Ipv4Addr>> {
        let mut records = Vec::new();
        while table.export(&mut Exported::default(), usize::MAX, now, |record| records.push(record)) {}
        records
    }

    fn admit(table: &mut Table<Ipv4Addr>, record: &Record<Ipv4Addr>) -> Result<Admitted, Full> {
        table.admit(record, &Limits::NONE, NOW, |_, _| (), |_, _| ())
    }

    /// A client that used one port for several services with one real server: answers are those of the connection made last.
    #[test]
    fn answers_that_look_the_same_stay_with_the_same_connection() {
        for last in 0..2 {
            let mut old = table(16);
            let mut all = [connection(80, 4000), connection(81, 4000)];
            all.swap(1, last);
            for new in &all {
                make(&mut old, new, &[2, 16]);
            }
            for reversed in [false, true] {
                let mut records = exported(&old, NOW);
                if reversed {
                    records.reverse();
                }
                let mut new = table(64);
                for record in &records {
                    admit(&mut new, record).unwrap();
                }
                let answer = new.entry(ConnectionIndex(0)).answer_flow();
                let found = new.find(new.hash(&answer), &answer, NOW).unwrap();
                assert_eq!(new.entry(found.index).vip_port(), all[1].flow.destination_port, "{records:?}");
                assert_eq!(found.direction, Direction::FromReal);
            }
        }
    }

    #[test]
    fn what_has_only_begun_is_given_up_and_what_is_open_is_not() {
        let mut old = table(8);
        make(&mut old, &connection(80, 4000), &[2]);
        make(&mut old, &connection(80, 4001), &[2, 16]);
        let mut new = table(2);
        for record in exported(&old, NOW) {
            admit(&mut new, &record).unwrap();
        }
        let mut gone = Vec::new();
        let mut push = |entry: &Entry<Ipv4Addr>, _| gone.push(entry.client_port().0);
        let made = new.insert(&connection(80, 4002), &Limits::NONE, NOW, &mut push);
        let index = made.unwrap();
        let (entry, beside) = new.entry_and_beside(index);
        for flags in [2, 16] {
            let change = entry.observe(flags, Direction::FromClient, NOW, &Timeouts::default());
            beside.follow(index, entry, change);
        }
        assert_eq!(new.insert(&connection(80, 4003), &Limits::NONE, NOW, &mut push), Err(Full::Table));
        assert_eq!(gone, [4000]);
    }

    #[test]
    fn a_record_takes_the_place_of_what_is_known_by_its_flow() {
        let mut old = table(8);
        let index = make(&mut old, &connection(80, 4000), &[2, 16]);
        let record = old.record(index, NOW);
        let mut new = table(8);
        make(&mut new, &NewConnection { real: RealId(7), ..connection(80, 4000) }, &[2]);
        let far = ConnectionRecord { left: Ticks(u32::MAX), ..record };
        let mut ended = Vec::new();
        let admitted = new.admit(
            &Record::Connection(far),
            &Limits::NONE,
            NOW,
            |entry, ending| ended.push((entry.real(), ending)),
            |_, _| (),
        );
        let Ok(Admitted::Connection(index)) = admitted else { panic!("{admitted:?}") };
        assert_eq!((ended, new.len()), (vec![(RealId(7), Ending::Over)], 1));
        // However much time a peer says is left, it lies ahead.
        let flow = far.client_flow();
        assert_eq!(new.find(new.hash(&flow), &flow, NOW).map(|found| found.index), Some(index));
        assert_eq!(new.record(index, NOW), ConnectionRecord { left: LEFT_MAX, ..record });
    }

    #[test]
    fn a_template_leads_to_the_real_server_that_its_record_says() {
        let key = TemplateKey {
            client: Ipv4Addr::new(198, 51, 100, 1),
            vip: Ipv4Addr::new(192, 0, 2, 10),
            vip_port: L4Port(80),
            protocol: Some(Protocol::Tcp),
        };
        let template = |real, seconds| NewTemplate {
            key,
            real: RealId(real),
            real_address: Ipv4Addr::new(10, 1, 0, 1),
            real_port: L4Port(8080),
            timeout: Ticks::from_seconds(seconds),
        };
        let prepared = || {
            let mut table = table(8);
            table.prepare_templates();
            table
        };
        let make_template = |table: &mut Table<Ipv4Addr>, new| {
            table.make_template(&new, &Limits::NONE, NOW, |_, _| (), |_, _| ()).unwrap()
        };
        let mut old = prepared();
        let made = make_template(&mut old, template(1, 50));
        let index = make(&mut old, &connection(80, 4000), &[]);
        old.control(index, made, NOW);
        for flags in [2, 16] {
            let (entry, beside) = old.entry_and_beside(index);
            let change = entry.observe(flags, Direction::FromClient, NOW, &Timeouts::default());
            beside.follow(index, entry, change);
        }
        let records = exported(&old, NOW);
        for known in [None, Some(1), Some(2)] {
            let mut new = prepared();
            known.map(|real| make_template(&mut new, template(real, 5)));
            let admitted = records.iter().map(|record| admit(&mut new, record).unwrap()).collect::<Vec<_>>();
            let expected = if known == Some(1) { Admitted::KnownTemplate } else { Admitted::Template };
            assert_eq!(admitted[0], expected);
            let found = new.templates().find(&key, NOW).unwrap();
            assert_eq!(new.templates().get(found).real(), RealId(1));
            assert_eq!(exported(&new, NOW), records);
            // Its connection, which lives longer, keeps it.
            let later = NOW.after(Ticks::from_seconds(51));
            assert!(new.templates().find(&key, later).is_some());
        }
        // Without memory for templates the connection comes alone.
        let mut bare = table(8);
        assert_eq!(admit(&mut bare, &records[0]), Err(Full::Table));
        let Record::Connection(alone) = &records[1] else { panic!("{records:?}") };
        admit(&mut bare, &records[1]).unwrap();
        let stale = ConnectionRecord { template: Control::Stale, ..*alone };
        assert_eq!(exported(&bare, NOW), [Record::Connection(stale)]);
    }
}
