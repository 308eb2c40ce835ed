package rig

import (
	"fmt"
	"path/filepath"
	"strings"
	"testing"
)

// Cluster is several running members.
type Cluster struct {
	Members []*Server

	t       testing.TB
	dir     string
	initial []string // name=peerURL of every member there ever was
	args    []string
}

// StartCluster founds a cluster of n members m1, m2 and so on and waits until
// all take requests.
func StartCluster(t testing.TB, n int, args ...string) *Cluster {
	t.Helper()
	c := &Cluster{t: t, dir: t.TempDir(), args: args}
	options := make([]Options, n)
	for i := range options {
		options[i] = c.next()
	}
	for _, o := range options {
		o.Args = append(o.Args, "--initial-cluster", strings.Join(c.initial, ","))
		c.Members = append(c.Members, Launch(t, o))
	}
	for _, s := range c.Members {
		s.WaitReady()
	}
	return c
}

// next chooses name, directory and ports of a further member.
func (c *Cluster) next() Options {
	name := fmt.Sprintf("m%d", len(c.initial)+1)
	o := Options{Name: name, Dir: filepath.Join(c.dir, name), ClientURL: FreeURL(c.t), PeerURL: FreeURL(c.t), Args: append([]string(nil), c.args...)}
	c.initial = append(c.initial, name+"="+o.PeerURL)
	return o
}

// Next is what a member to be joined will be started with, so that it can be
// added by its peer URL first.
func (c *Cluster) Next() Options {
	o := c.next()
	o.Args = append(o.Args, "--initial-cluster", strings.Join(c.initial, ","), "--initial-cluster-state", "existing")
	return o
}

// Join starts a member that was added.
func (c *Cluster) Join(o Options) *Server {
	c.t.Helper()
	s := Start(c.t, o)
	c.Members = append(c.Members, s)
	return s
}

// Restart starts a member again that has ended.
func (c *Cluster) Restart(i int) *Server {
	c.t.Helper()
	old := c.Members[i]
	c.Members[i] = Start(c.t, Options{
		Dir: old.Dir, Name: filepath.Base(old.Dir), ClientURL: old.ClientURL, PeerURL: old.PeerURL,
		Args: append(append([]string(nil), c.args...), "--initial-cluster", strings.Join(c.initial, ",")),
	})
	return c.Members[i]
}
