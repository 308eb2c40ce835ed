// Package alarm keeps the alarms of a cluster: which member has run out of space
// or found its data corrupt.
//
// An alarm is a pair (member, type). Any alarm of any member counts for the
// whole cluster: what it forbids is decided by the apply gates, which ask Has.
// The set changes only by applied entries, and changes come back as bucket.Ops.
// The package is pure; the caller serialises access.
package alarm

import (
	"cmp"
	"errors"
	"fmt"
	"slices"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"google.golang.org/protobuf/encoding/protowire"

	"github.com/steledb/stele/internal/base/bucket"
)

// ErrUnknownAction answers an AlarmRequest whose action is none of get, activate
// and deactivate. etcd stops working at this point.
var ErrUnknownAction = errors.New("etcdserver: unknown alarm action")

// Alarm is one alarm of one member. Types that this version does not know are
// kept too.
type Alarm struct {
	Member uint64
	Type   pb.AlarmType
}

// Set is the alarms that are active. The zero value is not ready: use New.
type Set struct {
	active map[Alarm]struct{}
}

// New returns a set without alarms.
func New() *Set { return &Set{active: map[Alarm]struct{}{}} }

// Load adds an alarm found in the alarm bucket at start.
func (s *Set) Load(key []byte) error {
	a, err := decode(key)
	if err != nil {
		return fmt.Errorf("alarm: record %x: %w", key, err)
	}
	s.active[a] = struct{}{}
	return nil
}

// Check says whether a request can be applied, without applying it. It is for
// answering before anything is proposed.
func Check(r *pb.AlarmRequest) error {
	switch r.GetAction() {
	case pb.AlarmRequest_GET, pb.AlarmRequest_ACTIVATE, pb.AlarmRequest_DEACTIVATE:
		return nil
	}
	return ErrUnknownAction
}

// Apply carries out a request and returns the alarms it is about: for get those
// of the type, for activate the one that is now active even if it was before,
// for deactivate the one that was active.
func (s *Set) Apply(r *pb.AlarmRequest) ([]Alarm, []bucket.Op, error) {
	a := Alarm{Member: r.GetMemberID(), Type: r.GetAlarm()}
	switch r.GetAction() {
	case pb.AlarmRequest_GET:
		return s.Get(a.Type), nil, nil
	case pb.AlarmRequest_ACTIVATE:
		alarms, ops := s.activate(a)
		return alarms, ops, nil
	case pb.AlarmRequest_DEACTIVATE:
		alarms, ops := s.deactivate(a)
		return alarms, ops, nil
	}
	return nil, nil, ErrUnknownAction
}

func (s *Set) activate(a Alarm) ([]Alarm, []bucket.Op) {
	if a.Type == pb.AlarmType_NONE {
		return nil, nil
	}
	if _, ok := s.active[a]; ok {
		return []Alarm{a}, nil
	}
	s.active[a] = struct{}{}
	return []Alarm{a}, []bucket.Op{bucket.Put(bucket.Alarm, a.encode(), nil)}
}

func (s *Set) deactivate(a Alarm) ([]Alarm, []bucket.Op) {
	if _, ok := s.active[a]; !ok {
		return nil, nil
	}
	delete(s.active, a)
	return []Alarm{a}, []bucket.Op{bucket.Drop(bucket.Alarm, a.encode())}
}

// Get returns the active alarms of a type, or all for NONE, by member and type.
func (s *Set) Get(t pb.AlarmType) []Alarm {
	var alarms []Alarm
	for a := range s.active {
		if t == pb.AlarmType_NONE || a.Type == t {
			alarms = append(alarms, a)
		}
	}
	slices.SortFunc(alarms, func(a, b Alarm) int {
		return cmp.Or(cmp.Compare(a.Member, b.Member), cmp.Compare(a.Type, b.Type))
	})
	return alarms
}

// Has reports whether any member has an alarm of the type.
func (s *Set) Has(t pb.AlarmType) bool {
	for a := range s.active {
		if a.Type == t {
			return true
		}
	}
	return false
}

// Proto is the alarm as the API writes it.
func (a Alarm) Proto() *pb.AlarmMember {
	return &pb.AlarmMember{MemberID: a.Member, Alarm: a.Type}
}

// An alarm in the alarm bucket has no value. Its key is protobuf AlarmMember:
// 1 member, 2 type; varints, fields that are 0 are left out.
const (
	fieldMember = 1
	fieldType   = 2
)

func (a Alarm) encode() []byte {
	var b []byte
	if a.Member != 0 {
		b = protowire.AppendTag(b, fieldMember, protowire.VarintType)
		b = protowire.AppendVarint(b, a.Member)
	}
	if a.Type != 0 {
		b = protowire.AppendTag(b, fieldType, protowire.VarintType)
		b = protowire.AppendVarint(b, uint64(int64(a.Type)))
	}
	return b
}

func decode(b []byte) (a Alarm, err error) {
	for len(b) > 0 {
		number, kind, n := protowire.ConsumeTag(b)
		if n < 0 {
			return a, protowire.ParseError(n)
		}
		b = b[n:]
		if kind != protowire.VarintType || number != fieldMember && number != fieldType {
			return a, fmt.Errorf("unknown field %d", number)
		}
		v, n := protowire.ConsumeVarint(b)
		if n < 0 {
			return a, protowire.ParseError(n)
		}
		if number == fieldMember {
			a.Member = v
		} else {
			a.Type = pb.AlarmType(v)
		}
		b = b[n:]
	}
	return a, nil
}
