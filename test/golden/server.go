package main

import (
	"context"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"
)

const (
	clientURL = "http://localhost:2379"
	peerURL   = "http://localhost:2380"
	startWait = 20 * time.Second
	stopWait  = 10 * time.Second
)

// server is the server under test, started by a command template.
type server struct {
	template string
	name     string
	flags    []string
	dir      string // data directory
	logPath  string

	cmd  *exec.Cmd
	done chan struct{}
}

func (s *server) start() error {
	log, err := os.OpenFile(s.logPath, os.O_WRONLY|os.O_CREATE|os.O_APPEND, 0o600)
	if err != nil {
		return err
	}
	defer log.Close()
	line := strings.NewReplacer("{name}", s.name, "{dir}", s.dir, "{client}", clientURL, "{peer}", peerURL).Replace(s.template)
	args := append(strings.Fields(line), s.flags...)
	s.cmd = exec.Command(args[0], args[1:]...)
	s.cmd.Stdout, s.cmd.Stderr = log, log
	if err := s.cmd.Start(); err != nil {
		return err
	}
	done := make(chan struct{})
	s.done = done
	go func() {
		_ = s.cmd.Wait()
		close(done)
	}()
	return s.awaitReady()
}

// awaitReady polls the client port, then a read through consensus.
func (s *server) awaitReady() error {
	ctx, cancel := context.WithTimeout(context.Background(), startWait)
	defer cancel()
	for {
		select {
		case <-s.done:
			return fmt.Errorf("server ended while starting; see %s", s.logPath)
		case <-ctx.Done():
			return fmt.Errorf("server did not answer within %s; see %s", startWait, s.logPath)
		case <-time.After(50 * time.Millisecond):
		}
		if c, err := net.DialTimeout("tcp", strings.TrimPrefix(clientURL, "http://"), time.Second); err == nil {
			c.Close()
			return nil
		}
	}
}

func (s *server) stop(sig syscall.Signal) {
	if s.cmd == nil || s.cmd.Process == nil {
		return
	}
	_ = s.cmd.Process.Signal(sig)
	select {
	case <-s.done:
	case <-time.After(stopWait):
		_ = s.cmd.Process.Kill()
		<-s.done
	}
	s.cmd = nil
}

// restartOn stops the server and starts it on another directory with more flags.
func (s *server) restartOn(dir string, flags ...string) error {
	s.stop(syscall.SIGTERM)
	s.dir = dir
	s.flags = append(s.flags, flags...)
	return s.start()
}

func newServer(template, work string, sc *scenario) *server {
	name, flags := sc.serverFlags()
	return &server{
		template: template, name: name, flags: flags,
		dir: filepath.Join(work, "data"), logPath: filepath.Join(work, "server.log"),
	}
}
