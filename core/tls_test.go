package core

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"io"
	"log"
	"math/big"
	"net"
	"net/http"
	"net/http/httptest"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/velithon/velithon-proxy/core/h1"
)

// authority signs certificates.
type authority struct {
	t    *testing.T
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
}

func newAuthority(t *testing.T) *authority {
	a := &authority{t: t}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "test authority"},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign,
	}
	a.cert, a.key = a.sign(template, nil)
	return a
}

// sign makes a certificate; by itself without a parent.
func (a *authority) sign(template *x509.Certificate, parent *authority) (*x509.Certificate, *ecdsa.PrivateKey) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	require.NoError(a.t, err)
	issuer, issuerKey := template, key
	if parent != nil {
		issuer, issuerKey = parent.cert, parent.key
	}
	der, err := x509.CreateCertificate(rand.Reader, template, issuer, &key.PublicKey, issuerKey)
	require.NoError(a.t, err)
	cert, err := x509.ParseCertificate(der)
	require.NoError(a.t, err)
	return cert, key
}

// leaf makes a certificate for 127.0.0.1 and good.test, changed by change.
func (a *authority) leaf(change ...func(*x509.Certificate)) (cert, key string) {
	template := &x509.Certificate{
		SerialNumber: big.NewInt(time.Now().UnixNano()), Subject: pkix.Name{CommonName: "leaf"},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}, DNSNames: []string{"good.test"},
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
	}
	for _, c := range change {
		c(template)
	}
	leaf, private := a.sign(template, a)
	der, err := x509.MarshalPKCS8PrivateKey(private)
	require.NoError(a.t, err)
	return encodePEM("CERTIFICATE", leaf.Raw), encodePEM("PRIVATE KEY", der)
}

func (a *authority) pem() string { return encodePEM("CERTIFICATE", a.cert.Raw) }

func encodePEM(kind string, der []byte) string {
	return string(pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der}))
}

// secureUpstream counts the requests that reach it and the handshakes that resumed a session.
type secureUpstream struct {
	*httptest.Server
	requests, resumed atomic.Int32
}

func newSecureUpstream(t *testing.T, cert, key string, change ...func(*tls.Config)) *secureUpstream {
	u := &secureUpstream{}
	u.Server = httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		u.requests.Add(1)
		if r.TLS.DidResume {
			u.resumed.Add(1)
		}
		who := "nobody"
		if len(r.TLS.PeerCertificates) > 0 {
			who = r.TLS.PeerCertificates[0].Subject.CommonName
		}
		_, _ = io.WriteString(w, r.TLS.ServerName+" "+r.TLS.NegotiatedProtocol+" "+who)
	}))
	pair, err := tls.X509KeyPair([]byte(cert), []byte(key))
	require.NoError(t, err)
	u.TLS = &tls.Config{Certificates: []tls.Certificate{pair}}
	for _, c := range change {
		c(u.TLS)
	}
	u.Config.ErrorLog = log.New(io.Discard, "", 0)
	u.StartTLS()
	t.Cleanup(u.Close)
	return u
}

// Row F12: what cannot be trusted is refused with its reason, and no byte of the request is sent.
func TestCertificatesThatAreRefused(t *testing.T) {
	ours, other := newAuthority(t), newAuthority(t)
	good, goodKey := ours.leaf()
	expired, expiredKey := ours.leaf(func(c *x509.Certificate) { c.NotAfter = time.Now().Add(-time.Minute) })
	elsewhere, elsewhereKey := ours.leaf(func(c *x509.Certificate) { c.IPAddresses, c.DNSNames = nil, []string{"other.test"} })
	old := func(c *tls.Config) { c.MinVersion, c.MaxVersion = tls.VersionTLS10, tls.VersionTLS11 }
	for name, row := range map[string]struct {
		cert, key string
		server    []func(*tls.Config)
		client    func(*Config)
		reason    string
	}{
		"F12 expired":          {expired, expiredKey, nil, nil, "expired"},
		"F12 wrong host":       {elsewhere, elsewhereKey, nil, nil, "doesn't contain any IP SANs"},
		"F12 unknown CA":       {good, goodKey, nil, func(c *Config) { c.TLSCA = other.pem() }, "unknown authority"},
		"F12 system's roots":   {good, goodKey, nil, func(c *Config) { c.TLSCA = "" }, "unknown authority"},
		"F12 TLS 1.1":          {good, goodKey, []func(*tls.Config){old}, nil, "protocol version"},
		"F12 TLS 1.2, not 1.3": {good, goodKey, []func(*tls.Config){func(c *tls.Config) { c.MaxVersion = tls.VersionTLS12 }}, func(c *Config) { c.TLSMinVersion = "1.3" }, "protocol version"},
		"F12 another name":     {good, goodKey, nil, func(c *Config) { c.TLSServerName = "bad.test" }, "not bad.test"},
	} {
		t.Run(name, func(t *testing.T) {
			upstream := newSecureUpstream(t, row.cert, row.key, row.server...)
			pool := newPool(t, upstream.URL, func(c *Config) {
				c.TLSCA = ours.pem()
				if row.client != nil {
					row.client(c)
				}
			})
			for _, method := range []string{"GET", "POST"} {
				_, err := pool.Do(t.Context(), Request{Method: method, Target: "/", Body: []byte("secret")})
				var failure *Error
				require.ErrorAs(t, err, &failure)
				assert.Equal(t, CodeTLS, failure.Code)
				assert.Equal(t, "tls", failure.Phase.String())
				assert.False(t, failure.Sent)
				assert.ErrorContains(t, err, row.reason)
			}
			assert.Zero(t, upstream.requests.Load())
		})
	}
}

func TestOptionsOfTLS(t *testing.T) {
	ours := newAuthority(t)
	cert, key := ours.leaf()
	clientCert, clientKey := ours.leaf(func(c *x509.Certificate) { c.Subject.CommonName = "me" })
	roots := x509.NewCertPool()
	roots.AddCert(ours.cert)
	asks := func(c *tls.Config) { c.ClientAuth, c.ClientCAs = tls.RequireAndVerifyClientCert, roots }
	for name, row := range map[string]struct {
		server []func(*tls.Config)
		client func(*Config)
		body   string // "" when the upstream refuses
	}{
		"own authority":        {nil, func(*Config) {}, " http/1.1 nobody"},
		"server name":          {nil, func(c *Config) { c.TLSServerName = "good.test" }, "good.test http/1.1 nobody"},
		"insecure":             {nil, func(c *Config) { c.TLSCA, c.TLSInsecure = "", true }, " http/1.1 nobody"},
		"client certificate":   {[]func(*tls.Config){asks}, func(c *Config) { c.TLSCert, c.TLSKey = clientCert, clientKey }, " http/1.1 me"},
		"no certificate given": {[]func(*tls.Config){asks}, func(*Config) {}, ""},
		"TLS 1.3":              {nil, func(c *Config) { c.TLSMinVersion = "1.3" }, " http/1.1 nobody"},
	} {
		t.Run(name, func(t *testing.T) {
			upstream := newSecureUpstream(t, cert, key, row.server...)
			pool := newPool(t, upstream.URL, func(c *Config) {
				c.TLSCA = ours.pem()
				row.client(c)
			})
			for range 3 {
				response, err := pool.Do(t.Context(), Request{Method: "GET", Target: "/"})
				if row.body == "" {
					var failure *Error
					require.ErrorAs(t, err, &failure)
					assert.Zero(t, upstream.requests.Load())
					continue
				}
				require.NoError(t, err)
				assert.Equal(t, row.body, string(response.Body))
			}
		})
	}
}

// In TLS 1.3 the upstream looks at the client's certificate when the request may be under way. That it is missing is a fault of
// TLS all the same, and another try would bring the same.
func TestACertificateThatIsMissingIsTheEndOfTheSession(t *testing.T) {
	ours := newAuthority(t)
	cert, key := ours.leaf()
	pair, err := tls.X509KeyPair([]byte(cert), []byte(key))
	require.NoError(t, err)
	roots := x509.NewCertPool()
	roots.AddCert(ours.cert)
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	t.Cleanup(func() { _ = listener.Close() })
	go func() {
		for {
			raw, err := listener.Accept()
			if err != nil {
				return
			}
			go func() {
				defer func() { _ = raw.Close() }()
				_ = tls.Server(raw, &tls.Config{
					Certificates: []tls.Certificate{pair}, ClientAuth: tls.RequireAndVerifyClientCert, ClientCAs: roots,
				}).Handshake()
				_, _ = io.Copy(io.Discard, raw) // or the reset of an unread request overtakes the alert
			}()
		}
	}()
	pool := newPool(t, "https://"+listener.Addr().String(), func(c *Config) { c.TLSCA = ours.pem() })
	for _, method := range []string{"GET", "POST"} {
		response, err := pool.Do(t.Context(), Request{Method: method, Target: "/"})
		var failure *Error
		require.ErrorAs(t, err, &failure)
		assert.Equal(t, CodeTLS, failure.Code)
		assert.ErrorContains(t, err, "certificate required")
		require.Len(t, response.Attempts, 1)
		assert.Equal(t, "the certificate was refused", response.Attempts[0].Reason)
	}
}

func TestSessionsAreResumed(t *testing.T) {
	ours := newAuthority(t)
	cert, key := ours.leaf()
	for _, version := range []uint16{tls.VersionTLS12, tls.VersionTLS13} {
		upstream := newSecureUpstream(t, cert, key, func(c *tls.Config) { c.MaxVersion = version })
		pool := newPool(t, upstream.URL, func(c *Config) { c.TLSCA = ours.pem() })
		for range 3 {
			_, err := pool.Do(t.Context(), Request{Method: "GET", Target: "/", Fields: h1.AppendField(nil, "connection", "close")})
			require.NoError(t, err)
		}
		assert.EqualValues(t, 2, upstream.resumed.Load(), tls.VersionName(version))
	}
}

func TestOptionsOfTLSThatCannotBeUsed(t *testing.T) {
	ours := newAuthority(t)
	cert, key := ours.leaf()
	_, otherKey := ours.leaf()
	expired, expiredKey := ours.leaf(func(c *x509.Certificate) { c.NotAfter = time.Now().Add(-time.Hour) })
	for name, row := range map[string]struct {
		target, field string
		change        func(*Config)
	}{
		"K14 another key":  {"https://a", "tls_cert", func(c *Config) { c.TLSCert, c.TLSKey = cert, otherKey }},
		"K14 no key":       {"https://a", "tls_cert", func(c *Config) { c.TLSCert = cert }},
		"K14 no cert":      {"https://a", "tls_cert", func(c *Config) { c.TLSKey = key }},
		"K14 expired":      {"https://a", "tls_cert", func(c *Config) { c.TLSCert, c.TLSKey = expired, expiredKey }},
		"K14 no PEM":       {"https://a", "tls_ca", func(c *Config) { c.TLSCA = "x" }},
		"K14 version":      {"https://a", "tls_min_version", func(c *Config) { c.TLSMinVersion = "1.1" }},
		"K14 name":         {"https://a", "tls_server_name", func(c *Config) { c.TLSServerName = "a b" }},
		"K14 plain target": {"http://a", "tls_ca", func(c *Config) { c.TLSCA = ours.pem() }},
	} {
		t.Run(name, func(t *testing.T) {
			config := DefaultConfig()
			config.Targets = []string{row.target}
			row.change(&config)
			var refused *ConfigError
			require.ErrorAs(t, config.Validate(), &refused)
			assert.Equal(t, row.field, refused.Field)
			assert.Contains(t, refused.Message, row.field)
			assert.NotContains(t, refused.Message, "BEGIN")
		})
	}
}
