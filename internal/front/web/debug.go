package web

import (
	"bytes"
	"encoding/json"
	"net/http"
	"net/http/pprof"
	"os"
	"runtime"
	"slices"

	"golang.org/x/sys/unix"
)

const pprofPath = "/debug/pprof/"

// addPprof serves the runtime's profiles. The index serves the named ones.
func addPprof(mux *http.ServeMux) {
	mux.HandleFunc(pprofPath, pprof.Index)
	mux.HandleFunc(pprofPath+"cmdline", pprof.Cmdline)
	mux.HandleFunc(pprofPath+"profile", pprof.Profile)
	mux.HandleFunc(pprofPath+"symbol", pprof.Symbol)
	mux.HandleFunc(pprofPath+"trace", pprof.Trace)
}

// vars answers /debug/vars in the form of package expvar, from this member's
// own variables: those of expvar are the whole process's.
func (o *Options) vars(w http.ResponseWriter, _ *http.Request) {
	all := map[string]func() any{
		"cmdline":               func() any { return os.Args },
		"memstats":              memStats,
		"file_descriptor_limit": fileLimit,
	}
	for name, fn := range o.Vars {
		all[name] = fn
	}
	w.Header().Set("Content-Type", "application/json; charset=utf-8")
	_, _ = w.Write(renderVars(all)) // the client is gone if this fails
}

// renderVars writes one variable a line, sorted.
func renderVars(vars map[string]func() any) []byte {
	names := make([]string, 0, len(vars))
	for name := range vars {
		names = append(names, name)
	}
	slices.Sort(names)
	var out bytes.Buffer
	out.WriteString("{\n")
	for i, name := range names {
		value, err := json.Marshal(vars[name]())
		if err != nil {
			value = []byte("null")
		}
		if i > 0 {
			out.WriteString(",\n")
		}
		key, _ := json.Marshal(name) // a string always marshals
		out.Write(key)
		out.WriteString(": ")
		out.Write(value)
	}
	out.WriteString("\n}\n")
	return out.Bytes()
}

func memStats() any {
	stats := new(runtime.MemStats)
	runtime.ReadMemStats(stats)
	return stats
}

func fileLimit() any {
	var limit unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &limit); err != nil {
		return 0
	}
	return limit.Cur
}
