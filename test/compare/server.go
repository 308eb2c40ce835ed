package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"google.golang.org/protobuf/proto"

	"github.com/steledb/stele/internal/wire/h2client"
)

// server is one running etcd or drop-in.
type server struct {
	binary   string
	dir      string
	endpoint string
	args     []string
	cmd      *exec.Cmd
	exited   chan error
}

// newServer chooses ports and lays out the flags; start runs it.
func newServer(binary, dir string) (*server, error) {
	client, err := freePort()
	if err != nil {
		return nil, err
	}
	peer, err := freePort()
	if err != nil {
		return nil, err
	}
	clientURL, peerURL := "http://"+client, "http://"+peer
	return &server{binary: binary, dir: dir, endpoint: client, args: []string{
		"--name", "m", "--data-dir", filepath.Join(dir, "data"),
		"--listen-client-urls", clientURL, "--advertise-client-urls", clientURL,
		"--listen-peer-urls", peerURL, "--initial-advertise-peer-urls", peerURL,
		"--initial-cluster", "m=" + peerURL, "--quota-backend-bytes", strconv.Itoa(8 << 30),
		"--log-level", "warn",
	}}, nil
}

func freePort() (string, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return "", err
	}
	defer l.Close()
	return l.Addr().String(), nil
}

const startLimit = 5 * time.Minute // a restart with many keys is one of the scenarios

// start runs the server and returns how long it took until it answered a
// linearizable read.
func (s *server) start(ctx context.Context) (time.Duration, error) {
	log, err := os.OpenFile(filepath.Join(s.dir, "log"), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return 0, err
	}
	defer log.Close()
	s.cmd = exec.Command(s.binary, s.args...)
	s.cmd.Stdout, s.cmd.Stderr = log, log
	// The server must not outlive this program.
	s.cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	begin := time.Now()
	if err := s.cmd.Start(); err != nil {
		return 0, err
	}
	s.exited = make(chan error, 1)
	go func() { s.exited <- s.cmd.Wait() }()
	ctx, cancel := context.WithTimeout(ctx, startLimit)
	defer cancel()
	for {
		if s.answers(ctx) == nil {
			return time.Since(begin), nil
		}
		select {
		case err := <-s.exited:
			s.exited <- err
			return 0, fmt.Errorf("%s ended while starting: %v\n%s", s.binary, err, s.logTail())
		case <-ctx.Done():
			return 0, errors.Join(fmt.Errorf("%s did not answer in %v", s.binary, startLimit), s.stop())
		case <-time.After(5 * time.Millisecond):
		}
	}
}

var (
	methodRange = h2client.NewMethod(pb.KV_Range_FullMethodName)
	methodPut   = h2client.NewMethod(pb.KV_Put_FullMethodName)
)

func (s *server) answers(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, time.Second)
	defer cancel()
	return s.call(ctx, methodRange, &pb.RangeRequest{Key: []byte("k")})
}

func (s *server) put(ctx context.Context, key string, value []byte) error {
	return s.call(ctx, methodPut, &pb.PutRequest{Key: []byte(key), Value: value})
}

func (s *server) call(ctx context.Context, m *h2client.Method, req proto.Message) error {
	body, err := proto.Marshal(req)
	if err != nil {
		return err
	}
	c, err := h2client.Dial(ctx, "tcp", s.endpoint, h2client.Options{})
	if err != nil {
		return err
	}
	defer c.Close()
	_, err = c.Call(ctx, m, body)
	return err
}

func (s *server) logTail() []byte {
	b, err := os.ReadFile(filepath.Join(s.dir, "log"))
	if err != nil {
		return []byte(err.Error())
	}
	return b[max(0, len(b)-2000):]
}

// stop ends the server as an operator would, and kills it if that takes long.
func (s *server) stop() error {
	if err := s.cmd.Process.Signal(syscall.SIGTERM); err != nil {
		return err
	}
	select {
	case <-s.exited:
		return nil
	case <-time.After(30 * time.Second):
		err := s.cmd.Process.Kill()
		<-s.exited
		return errors.Join(fmt.Errorf("%s did not end within 30s of SIGTERM", s.binary), err)
	}
}

// cpu is the time the server has spent so far.
func (s *server) cpu() (time.Duration, error) {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", s.cmd.Process.Pid))
	if err != nil {
		return 0, err
	}
	return parseCPU(b)
}

// ticksPerSecond is USER_HZ, which is 100 on every Linux that Go runs on.
const ticksPerSecond = 100

// parseCPU reads utime and stime, fields 14 and 15 of proc_pid_stat(5). The
// second field is the command's name in parentheses and may hold anything.
func parseCPU(stat []byte) (time.Duration, error) {
	_, rest, ok := bytes.Cut(stat[max(0, bytes.LastIndexByte(stat, ')')):], []byte(") "))
	f := strings.Fields(string(rest))
	if !ok || len(f) < 13 {
		return 0, fmt.Errorf("/proc/<pid>/stat: %q", stat)
	}
	var ticks int64
	for _, v := range f[11:13] {
		n, err := strconv.ParseInt(v, 10, 64)
		if err != nil {
			return 0, fmt.Errorf("/proc/<pid>/stat: %w", err)
		}
		ticks += n
	}
	return time.Duration(ticks) * time.Second / ticksPerSecond, nil
}

// peakRSS is the most memory the server has had, in bytes.
func (s *server) peakRSS() (int64, error) {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", s.cmd.Process.Pid))
	if err != nil {
		return 0, err
	}
	return parsePeak(b)
}

func parsePeak(status []byte) (int64, error) {
	for line := range strings.Lines(string(status)) {
		if v, ok := strings.CutPrefix(line, "VmHWM:"); ok {
			kib, err := strconv.ParseInt(strings.TrimSuffix(strings.TrimSpace(v), " kB"), 10, 64)
			if err != nil {
				return 0, fmt.Errorf("/proc/<pid>/status: %w", err)
			}
			return kib << 10, nil
		}
	}
	return 0, errors.New("/proc/<pid>/status has no VmHWM")
}
