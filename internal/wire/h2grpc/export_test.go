package h2grpc

// Held tells what the server holds for its clients: bytes of requests, of
// loans, and of answers that are not sent.
func (s *Server) Held() (held, loaned, queued int64) {
	return s.held.Load(), s.loaned.Load(), s.queued.Load()
}

// Allowance tells how many nuisances of a kind pass at once.
func Allowance(kind int) int { return int(allowances[kind].burst) }

const (
	NuisanceReset    = int(nuisanceReset)
	NuisanceSettings = int(nuisanceSettings)
	NuisanceWindow   = int(nuisanceWindow)
	NuisanceEmpty    = int(nuisanceEmpty)
	NuisanceOther    = int(nuisanceOther)
	OutHard          = outHard
)
