package ctl

import (
	"fmt"
	"io"
	"os"
	"strings"

	"golang.org/x/term"
)

// askPassword prompts and reads one line, unseen if standard input is a
// terminal. Input that ends early is an empty or short password, not an error:
// the server decides.
func (a *app) askPassword(prompt string) (string, error) {
	fmt.Fprint(a.stdout, prompt)
	defer fmt.Fprintln(a.stdout)
	if f, ok := a.stdin.(*os.File); ok && term.IsTerminal(int(f.Fd())) {
		secret, err := term.ReadPassword(int(f.Fd()))
		return string(secret), err
	}
	return a.readLine()
}

func (a *app) readLine() (string, error) {
	line, err := a.in.ReadString('\n')
	if err == io.EOF {
		err = nil
	}
	return strings.TrimRight(line, "\r\n"), err
}

// newPassword asks twice, or reads one line if interactive is off.
func (a *app) newPassword(user string, interactive bool) (string, error) {
	if !interactive {
		return a.readLine()
	}
	first, err := a.askPassword(fmt.Sprintf("Password of %s: ", user))
	if err != nil {
		return "", withCode(exitBadArgs, fmt.Errorf("failed to ask password: %w", err))
	}
	if first == "" {
		return "", badArgs("empty password")
	}
	again, err := a.askPassword(fmt.Sprintf("Type password of %s again for confirmation: ", user))
	if err != nil {
		return "", withCode(exitBadArgs, fmt.Errorf("failed to ask password: %w", err))
	}
	if first != again {
		return "", badArgs("given passwords are different")
	}
	return first, nil
}
