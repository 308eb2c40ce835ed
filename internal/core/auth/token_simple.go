package auth

import (
	"container/list"
	"strconv"
	"strings"
	"sync"
	"time"
)

// simpleTokensMax bounds the tokens that are remembered, at about 200 bytes
// each. Beyond it the one that would run out first ends early and its holder
// has to log in again.
const simpleTokensMax = 100_000

// simple remembers tokens. A token is a random prefix, which the member that
// was asked for it chose and put into the entry, and the index of that entry:
// every member applies it and knows the token. Nothing is stored; after a
// restart everyone logs in again.
type simple struct {
	ttl time.Duration
	max int

	mu     sync.Mutex               // requests look up while the applier assigns
	tokens map[string]*list.Element // guarded by mu; of *simpleToken
	// order has the token that runs out first in front: all live equally long,
	// so one that is used moves to the back. Guarded by mu.
	order *list.List
}

type simpleToken struct {
	text, user string
	deadline   time.Time
}

func newSimple(ttl time.Duration) *simple {
	if ttl <= 0 {
		ttl = DefaultTTL
	}
	s := &simple{ttl: ttl, max: simpleTokensMax}
	s.clearLocked()
	return s
}

func (s *simple) NeedsPrefix() bool { return true }

func (s *simple) Assign(g Grant, now time.Time) (string, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.expireLocked(now)
	text := g.Prefix + "." + strconv.FormatUint(g.Index, 10)
	if e, ok := s.tokens[text]; ok {
		s.dropLocked(e)
	}
	if s.order.Len() >= s.max {
		s.dropLocked(s.order.Front())
	}
	s.tokens[text] = s.order.PushBack(&simpleToken{text, g.User, now.Add(s.ttl)})
	return text, nil
}

func (s *simple) Index(token string) (uint64, bool) {
	_, index, ok := strings.Cut(token, ".")
	if !ok {
		return 0, false
	}
	n, err := strconv.ParseUint(index, 10, 64)
	return n, err == nil
}

// Lookup gives the caller the revision of now: a simple token stands for its
// user, not for a state of the rights.
func (s *simple) Lookup(token string, revision uint64, now time.Time) (Caller, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.expireLocked(now)
	e, ok := s.tokens[token]
	if !ok {
		return Caller{}, false
	}
	t := e.Value.(*simpleToken)
	t.deadline = now.Add(s.ttl)
	s.order.MoveToBack(e)
	return Caller{User: t.user, Revision: revision}, true
}

func (s *simple) Forget(user string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for e := s.order.Front(); e != nil; {
		next := e.Next()
		if e.Value.(*simpleToken).user == user {
			s.dropLocked(e)
		}
		e = next
	}
}

func (s *simple) Clear() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.order.Len() > 0 {
		s.clearLocked()
	}
}

func (s *simple) clearLocked() {
	s.tokens, s.order = map[string]*list.Element{}, list.New()
}

func (s *simple) expireLocked(now time.Time) {
	for e := s.order.Front(); e != nil && !e.Value.(*simpleToken).deadline.After(now); e = s.order.Front() {
		s.dropLocked(e)
	}
}

func (s *simple) dropLocked(e *list.Element) {
	delete(s.tokens, e.Value.(*simpleToken).text)
	s.order.Remove(e)
}
