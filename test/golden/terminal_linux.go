package main

import (
	"fmt"
	"io"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// echoOff is the time a command gets to silence the terminal after its prompt.
const echoOff = 100 * time.Millisecond

// openTerminal makes a pseudo-terminal: what is written to screen is typed at
// tty, and what tty prints is read from screen.
func openTerminal() (screen, tty *os.File, err error) {
	screen, err = os.OpenFile("/dev/ptmx", os.O_RDWR, 0)
	if err != nil {
		return nil, nil, err
	}
	defer func() {
		if err != nil {
			screen.Close()
		}
	}()
	fd := int(screen.Fd())
	if err = unix.IoctlSetPointerInt(fd, unix.TIOCSPTLCK, 0); err != nil {
		return nil, nil, err
	}
	n, err := unix.IoctlGetInt(fd, unix.TIOCGPTN)
	if err != nil {
		return nil, nil, err
	}
	tty, err = os.OpenFile(fmt.Sprintf("/dev/pts/%d", n), os.O_RDWR|syscall.O_NOCTTY, 0)
	return screen, tty, err
}

// onTerminal runs a command on a terminal and types a line of its input after
// each prompt. Output and errors come back as one text.
func (r *replayer) onTerminal(st *step) (outcome, error) {
	screen, tty, err := openTerminal()
	if err != nil {
		return outcome{}, err
	}
	defer screen.Close()
	cmd := r.command(st.Cmd)
	cmd.Stdin, cmd.Stdout, cmd.Stderr = tty, tty, tty
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true, Setctty: true}
	if err := cmd.Start(); err != nil {
		tty.Close()
		return outcome{}, err
	}
	tty.Close()
	shown := make(chan string, 1)
	go func() {
		shown <- typeAtPrompts(screen, st)
	}()
	_ = killAfter(cmd, commandWait)
	return outcome{stdout: <-shown, exit: cmd.ProcessState.ExitCode()}, nil
}

func killAfter(cmd *exec.Cmd, wait time.Duration) error {
	t := time.AfterFunc(wait, func() { _ = cmd.Process.Kill() })
	defer t.Stop()
	return cmd.Wait()
}

// typeAtPrompts reads until the terminal is gone.
func typeAtPrompts(screen io.ReadWriter, st *step) string {
	text, _ := st.input()
	lines := strings.SplitAfter(text, "\n")
	var shown strings.Builder
	buf := make([]byte, 4096)
	for {
		n, err := screen.Read(buf)
		shown.Write(buf[:n])
		if err != nil {
			return shown.String()
		}
		if strings.HasSuffix(shown.String(), ": ") && len(lines) > 0 {
			time.Sleep(echoOff)
			_, _ = io.WriteString(screen, lines[0])
			lines = lines[1:]
		}
	}
}
