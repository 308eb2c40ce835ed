package logs

import (
	"fmt"
	"log/slog"
	"strings"
)

// Two levels above slog's own. They only name the severity of a line: nothing
// here ends the process; the caller that logs at them does.
const (
	LevelPanic = slog.Level(12)
	LevelFatal = slog.Level(16)
)

// LevelError says that a level name is not one of the known ones.
type LevelError struct{ Name string }

func (e *LevelError) Error() string { return fmt.Sprintf("unrecognized level: %q", e.Name) }

// ParseLevel reads a --log-level value. Like zap it accepts all lower or all
// upper case, and takes the empty name for info.
func ParseLevel(name string) (slog.Level, error) {
	level, ok := levelNames[name]
	if !ok && name == strings.ToUpper(name) {
		level, ok = levelNames[strings.ToLower(name)]
	}
	if !ok {
		return 0, &LevelError{Name: name}
	}
	return level, nil
}

var levelNames = map[string]slog.Level{
	"debug":  slog.LevelDebug,
	"info":   slog.LevelInfo,
	"":       slog.LevelInfo,
	"warn":   slog.LevelWarn,
	"error":  slog.LevelError,
	"dpanic": LevelPanic,
	"panic":  LevelPanic,
	"fatal":  LevelFatal,
}

// levelName is the word of a line's "level" field: the highest named level at
// or below the given one.
func levelName(l slog.Level) string {
	switch {
	case l >= LevelFatal:
		return "fatal"
	case l >= LevelPanic:
		return "panic"
	case l >= slog.LevelError:
		return "error"
	case l >= slog.LevelWarn:
		return "warn"
	case l >= slog.LevelInfo:
		return "info"
	}
	return "debug"
}
