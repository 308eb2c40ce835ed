package logs

import (
	"bytes"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strconv"
)

// journalSocket is where systemd's journal takes datagrams.
const journalSocket = "/run/systemd/journal/socket"

// journal sends each line as one journal entry whose priority follows from the
// line's level. Lines longer than a datagram can carry are cut: the journal's
// other way in, a file descriptor passed along, is not worth its code here.
type journal struct {
	conn net.Conn
	id   string
}

// journalLineMax keeps an entry below the kernel's usual datagram limit.
const journalLineMax = 96 << 10

func openJournal() (*journal, error) {
	return dialJournal(journalSocket)
}

func dialJournal(socket string) (*journal, error) {
	conn, err := net.Dial("unixgram", socket)
	if err != nil {
		return nil, fmt.Errorf("systemd journal: %w", err)
	}
	return &journal{conn: conn, id: filepath.Base(os.Args[0])}, nil
}

func (j *journal) Write(line []byte) (int, error) {
	text := bytes.TrimRight(line, "\n")
	if len(text) > journalLineMax {
		text = text[:journalLineMax]
	}
	var entry bytes.Buffer
	journalField(&entry, "PRIORITY", []byte(strconv.Itoa(priorityOf(line))))
	journalField(&entry, "SYSLOG_IDENTIFIER", []byte(j.id))
	journalField(&entry, "MESSAGE", text)
	if _, err := j.conn.Write(entry.Bytes()); err != nil {
		return 0, errors.Join(errors.New("systemd journal: send entry"), err)
	}
	return len(line), nil
}

// journalField appends one field in the journal's native form:
//
//	NAME=value\n                              a value of one line
//	NAME\n <8 bytes length, LE> value \n      any other value
func journalField(b *bytes.Buffer, name string, value []byte) {
	if bytes.IndexByte(value, '\n') < 0 {
		fmt.Fprintf(b, "%s=%s\n", name, value)
		return
	}
	b.WriteString(name + "\n")
	_ = binary.Write(b, binary.LittleEndian, uint64(len(value))) // a Buffer takes everything
	b.Write(value)
	b.WriteByte('\n')
}

// priorityOf maps the level of a JSON line to syslog's priorities; a line that
// tells no level is of interest (info).
func priorityOf(line []byte) int {
	const critical, err, warning, info, debug = 2, 3, 4, 6, 7
	var head struct {
		Level string `json:"level"`
	}
	_ = json.Unmarshal(line, &head) // not JSON: no level
	switch head.Level {
	case "debug":
		return debug
	case "warn":
		return warning
	case "error":
		return err
	case "panic", "fatal":
		return critical
	}
	return info
}
