package logs

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"

	"gopkg.in/natefinch/lumberjack.v2"
)

// Names of outputs that are not file paths.
const (
	OutputDefault = "default" // the same as stderr
	OutputStderr  = "stderr"
	OutputStdout  = "stdout"
	OutputJournal = "systemd/journal"
)

// ErrRotationOutput says that rotation needs one file to rotate.
var ErrRotationOutput = errors.New("--log-outputs requires a single file path when --log-rotate-config-json is defined")

// Options are the operator's wishes, in the words of the flags.
type Options struct {
	Level   string   // --log-level
	Format  string   // --log-format, empty means json
	Outputs []string // --log-outputs, empty means default
	// Rotate moves full log files aside; RotationJSON says when
	// (--log-rotation-config-json, the fields of lumberjack).
	Rotate       bool
	RotationJSON string
}

// Log is an opened log: the logger for everyone, and for its owner the level
// and the end.
type Log struct {
	*slog.Logger
	// Level may be set at any time.
	Level *slog.LevelVar

	closers []io.Closer
}

// Default is the log before the configuration is known: JSON at info level on
// standard error.
func Default() *Log {
	level := new(slog.LevelVar)
	return &Log{Logger: slog.New(NewHandler(os.Stderr, level, JSON)), Level: level}
}

// Open checks the options and opens every output. On an error nothing stays
// open.
func Open(opt Options) (*Log, error) {
	if len(opt.Outputs) == 0 {
		opt.Outputs = []string{OutputDefault}
	}
	if err := check(opt); err != nil {
		return nil, err
	}
	level, err := ParseLevel(opt.Level)
	if err != nil {
		return nil, err
	}
	format, err := ParseFormat(opt.Format)
	if err != nil {
		return nil, err
	}
	l := &Log{Level: new(slog.LevelVar)}
	l.Level.Set(level)
	w, err := l.openOutputs(opt)
	if err != nil {
		return nil, errors.Join(err, l.Close())
	}
	l.Logger = slog.New(NewHandler(w, l.Level, format).sampled())
	return l, nil
}

// Close closes the files. Lines logged afterwards are lost.
func (l *Log) Close() error {
	var errs []error
	for _, c := range l.closers {
		errs = append(errs, c.Close())
	}
	l.closers = nil
	return errors.Join(errs...)
}

// ParseFormat reads a --log-format value; empty means json.
func ParseFormat(name string) (Format, error) {
	switch name {
	case "", "json":
		return JSON, nil
	case "console":
		return Console, nil
	}
	return 0, fmt.Errorf("unknown log format: %s, supported values json, console", name)
}

// check finds the combinations that mean nothing, in the order in which etcd
// reports them.
func check(opt Options) error {
	if len(opt.Outputs) > 1 && contains(opt.Outputs, OutputDefault) {
		return fmt.Errorf("multi logoutput for %q is not supported yet", OutputDefault)
	}
	if opt.Rotate {
		if err := checkRotation(opt); err != nil {
			return err
		}
	}
	if len(opt.Outputs) > 1 && contains(opt.Outputs, OutputJournal) {
		return fmt.Errorf("running with %s but other '--log-outputs' values (%q) are configured with 'default'; override 'default' value with something else", OutputJournal, opt.Outputs)
	}
	return nil
}

func checkRotation(opt Options) error {
	files := 0
	for _, o := range opt.Outputs {
		if isFile(o) {
			files++
		}
	}
	if files > 1 || (files == 0 && len(opt.Outputs) == 1) {
		return ErrRotationOutput
	}
	_, err := parseRotation(opt.RotationJSON)
	return err
}

// parseRotation reads the rotation rules into the writer they configure.
func parseRotation(text string) (*lumberjack.Logger, error) {
	rotating := new(lumberjack.Logger)
	err := json.Unmarshal([]byte(text), rotating)
	var syntax *json.SyntaxError
	var mistyped *json.UnmarshalTypeError
	switch {
	case err == nil:
		return rotating, nil
	case errors.As(err, &syntax):
		return nil, fmt.Errorf("improperly formatted log rotation config: %w", err)
	case errors.As(err, &mistyped):
		return nil, fmt.Errorf("invalid log rotation config: %w", err)
	}
	return nil, fmt.Errorf("fail to unmarshal log rotation config: %w", err)
}

func (l *Log) openOutputs(opt Options) (io.Writer, error) {
	var all fanout
	for _, o := range opt.Outputs {
		w, err := l.openOutput(o, opt)
		if err != nil {
			return nil, fmt.Errorf("open log output %q: %w", o, err)
		}
		all = append(all, w)
	}
	if len(all) == 1 {
		return all[0], nil
	}
	return all, nil
}

func (l *Log) openOutput(name string, opt Options) (io.Writer, error) {
	switch {
	case name == OutputDefault || name == OutputStderr:
		return os.Stderr, nil
	case name == OutputStdout:
		return os.Stdout, nil
	case name == OutputJournal:
		return openJournal()
	case opt.Rotate:
		rotating, err := parseRotation(opt.RotationJSON)
		if err != nil {
			return nil, err
		}
		rotating.Filename = name
		l.closers = append(l.closers, rotating)
		return rotating, nil
	}
	f, err := os.OpenFile(name, os.O_WRONLY|os.O_APPEND|os.O_CREATE, 0o666)
	if err != nil {
		return nil, err
	}
	l.closers = append(l.closers, f)
	return f, nil
}

// fanout writes each line to every output, also when one of them fails: a full
// disk under the log file must not silence standard error.
type fanout []io.Writer

func (f fanout) Write(line []byte) (int, error) {
	var errs []error
	for _, w := range f {
		if _, err := w.Write(line); err != nil {
			errs = append(errs, err)
		}
	}
	return len(line), errors.Join(errs...)
}

func isFile(output string) bool {
	switch output {
	case OutputDefault, OutputStderr, OutputStdout, OutputJournal:
		return false
	}
	return true
}

func contains(list []string, s string) bool {
	for _, have := range list {
		if have == s {
			return true
		}
	}
	return false
}
