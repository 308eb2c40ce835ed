// Package cluster keeps who belongs to a cluster and which version it speaks:
// members, ids that were removed for good, the cluster version, and a downgrade
// under way.
//
// It changes only by applied entries: membership changes (Apply), published
// attributes, version and downgrade requests. Each change is checked at that
// point, in an order that every member follows, so that a change that is
// refused is refused everywhere. Changes of the backend file come back as
// bucket.Ops.
//
// The package also decides what needs no entry: the ids and conf changes of a
// new cluster from its --initial-cluster string, whether a change would endanger
// the quorum (strict reconfiguration), which cluster version comes next, and
// whether files of some version may be opened.
//
// It is pure, and leaves to others: talking to members, resolving names,
// committing. The caller serialises access; Members and Clone give values that
// may be kept, because a member is replaced and never changed in place.
package cluster
