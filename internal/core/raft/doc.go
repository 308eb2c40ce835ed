// Package raft decides: who leads, what is agreed on, and when a read may be
// answered. It is the Raft protocol as a pure state machine, compatible on the
// wire with etcd's raft 3.7, so that members of both kinds form one cluster.
//
// A Raft owns the protocol state of one member: term, vote, role, the log in
// memory, the membership and, while leading, the progress of the others. Ticks,
// messages, proposals and disk completions go in; Effects come out: entries to
// write, messages to send, committed runs to apply, reads that may be answered.
// It does no I/O, reads no clock, starts nothing, and takes its chance from a
// seeded source. Calls must not overlap.
//
// It promises:
//   - a vote, an acknowledgement or a candidacy leaves only after everything it
//     rests on is durable (Persisted);
//   - the leader counts itself for an entry only after its own disk has it, but
//     sends the entry to the others before that;
//   - Committed entries are agreed on, durable here, and delivered in order,
//     each once per lifetime of the Raft value;
//   - a ReadState is given only after a majority confirmed the leadership at a
//     time after the read was asked for.
//
// It leaves to the driver: writing entries and then the hard state, in the
// order of the Effects, completing writes in that order; sending and receiving
// messages (losing, doubling and reordering them is fine); preparing snapshot
// bodies; applying entries; repeating reads and proposals that went nowhere.
//
// DESIGN.md beside this file tells how the parts work together.
package raft
