package etcdcmd

import (
	"fmt"
	"log/slog"
	"net"
	"os"
)

// notifyInit tells systemd that the service is up, if systemd asked to know
// (NOTIFY_SOCKET, sd_notify(3)). The lines are written either way, as by etcd.
func notifyInit(log *slog.Logger) {
	log.Info("notifying init daemon")
	if err := sdNotify(os.Getenv("NOTIFY_SOCKET"), "READY=1"); err != nil {
		log.Error("failed to notify systemd for readiness", "error", err)
		return
	}
	log.Info("successfully notified init daemon")
}

// sdNotify sends one state to the socket; no socket means nobody asked.
func sdNotify(socket, state string) error {
	if socket == "" {
		return nil
	}
	conn, err := net.Dial("unixgram", socket) // a leading "@" means Linux's abstract names, to net too
	if err != nil {
		return fmt.Errorf("notify %s: %w", socket, err)
	}
	defer conn.Close()
	_, err = conn.Write([]byte(state))
	return err
}
