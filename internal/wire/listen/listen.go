// Package listen opens the ports of a member and divides what arrives on one
// port between its gRPC server and its HTTP server.
//
//	accept -> limit -> TLS handshake -> sniff -> gRPC   (HTTP/2)
//	                                          -> HTTP   (everything else)
//
// Open makes a listener from a URL of the configuration; Server accepts from
// any number of listeners. gRPC connections go to the gRPC server's own
// transport, not through net/http's: that one costs several times as much per
// request.
//
// What is bounded: open connections by Options.ConnsMax, the time and the bytes
// a connection may take to say what it is by sniffTimeout and len(preface), the
// shutdown by its context. What the servers do with a connection is theirs.
package listen

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"net/url"
	"os"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// keepAlive is the interval of TCP keepalives on accepted connections: peers
// that vanished without a word are noticed within a few of these.
const keepAlive = 30 * time.Second

// reservedFDs are left to files and outgoing connections when the limit on
// accepted ones is derived from the process's limit.
const reservedFDs = 150

// Options say how to listen.
type Options struct {
	// TLS serves https and unixs URLs; others ignore it.
	TLS *tls.Config
	// ConnsMax is the most connections open at a time; 0 means no limit.
	ConnsMax     int
	ReuseAddress bool
	ReusePort    bool
}

// Open listens on a URL: http, https (host:port), unix or unixs (a path).
func Open(u url.URL, opt Options) (net.Listener, error) {
	secure := u.Scheme == "https" || u.Scheme == "unixs"
	network, address := networkOf(u)
	if secure && opt.TLS == nil {
		return nil, fmt.Errorf("cannot listen on TLS for %s: KeyFile and CertFile are not presented", address)
	}
	if network == "unix" {
		if err := removeStale(address); err != nil {
			return nil, err
		}
	}
	config := net.ListenConfig{Control: opt.control, KeepAlive: keepAlive}
	l, err := config.Listen(context.Background(), network, address)
	if err != nil {
		return nil, err // says operation and place by itself
	}
	if opt.ConnsMax > 0 {
		l = newLimited(l, opt.ConnsMax)
	}
	if secure {
		l = tls.NewListener(l, opt.TLS)
	}
	return l, nil
}

// networkOf splits a URL into what package net wants. A socket's path may be
// written as unix:///abs/path, unix://rel or unix:rel.
func networkOf(u url.URL) (network, address string) {
	if u.Scheme == "unix" || u.Scheme == "unixs" {
		return "unix", u.Opaque + u.Host + u.Path
	}
	return "tcp", u.Host
}

// removeStale removes the socket that an earlier, killed process left behind.
// Anything that is not a socket is somebody's data and stays.
func removeStale(path string) error {
	info, err := os.Lstat(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	if info.Mode()&fs.ModeSocket == 0 {
		return nil // listening will fail and say why
	}
	return os.Remove(path)
}

// control sets the options of a socket before it is bound.
func (o Options) control(network, _ string, c syscall.RawConn) error {
	if network == "unix" {
		return nil
	}
	var failure error
	set := func(fd uintptr, option int) {
		if failure == nil {
			failure = os.NewSyscallError("setsockopt", unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, option, 1))
		}
	}
	err := c.Control(func(fd uintptr) {
		if o.ReuseAddress {
			set(fd, unix.SO_REUSEADDR)
		}
		if o.ReusePort {
			set(fd, unix.SO_REUSEPORT)
		}
	})
	return errors.Join(err, failure)
}

// ConnsMaxByLimit is the number of connections that the process's limit on
// open files allows, with some files left for other uses; at least 1.
func ConnsMaxByLimit() int {
	var limit unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &limit); err != nil {
		return 0
	}
	const plenty = 1 << 30
	return max(int(min(limit.Cur, plenty))-reservedFDs, 1)
}

// limited accepts only while fewer than cap(slots) connections are open;
// further clients wait in the kernel's queue.
type limited struct {
	net.Listener
	slots  chan struct{}
	closed chan struct{}
	once   sync.Once
}

func newLimited(l net.Listener, connsMax int) *limited {
	return &limited{Listener: l, slots: make(chan struct{}, connsMax), closed: make(chan struct{})}
}

func (l *limited) Accept() (net.Conn, error) {
	select {
	case l.slots <- struct{}{}:
	case <-l.closed:
		return nil, net.ErrClosed
	}
	c, err := l.Listener.Accept()
	if err != nil {
		<-l.slots
		return nil, err
	}
	return &limitedConn{Conn: c, slots: l.slots}, nil
}

func (l *limited) Close() error {
	l.once.Do(func() { close(l.closed) })
	return l.Listener.Close()
}

// limitedConn gives its slot back at the first Close.
type limitedConn struct {
	net.Conn
	slots chan struct{}
	once  sync.Once
}

func (c *limitedConn) Close() error {
	err := c.Conn.Close()
	c.once.Do(func() { <-c.slots })
	return err
}
