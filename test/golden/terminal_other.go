//go:build !linux

package main

import "errors"

func (r *replayer) onTerminal(*step) (outcome, error) {
	return outcome{}, errors.New("terminals are made on Linux only")
}
