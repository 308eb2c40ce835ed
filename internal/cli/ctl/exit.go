package ctl

import (
	"errors"
	"fmt"
)

// Exit codes, as etcdctl's users know them.
const (
	exitSuccess       = 0
	exitFailure       = 1
	exitBadConnection = 2
	exitInvalidInput  = 3
	exitBadFeature    = 4 // an option value or output format that is not supported
	exitInterrupted   = 5
	exitBadArgs       = 128
)

// exitError ends the command with a code. Without err nothing more is printed:
// the command has said what there is to say.
type exitError struct {
	code int
	err  error
}

func (e *exitError) Error() string {
	if e.err == nil {
		return fmt.Sprintf("exit status %d", e.code)
	}
	return e.err.Error()
}

func (e *exitError) Unwrap() error { return e.err }

func withCode(code int, err error) error {
	if err == nil {
		return nil
	}
	return &exitError{code, err}
}

func badArgs(format string, args ...any) error {
	return &exitError{exitBadArgs, fmt.Errorf(format, args...)}
}

func badFeature(format string, args ...any) error {
	return &exitError{exitBadFeature, fmt.Errorf(format, args...)}
}

func invalidInput(format string, args ...any) error {
	return &exitError{exitInvalidInput, fmt.Errorf(format, args...)}
}

// quiet ends the command with code and without another line.
func quiet(code int) error { return &exitError{code: code} }

// codeOf is the exit code for a command's error.
func codeOf(err error) int {
	var e *exitError
	switch {
	case err == nil:
		return exitSuccess
	case errors.As(err, &e):
		return e.code
	}
	return exitFailure
}
