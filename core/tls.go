package core

import (
	"crypto/tls"
	"crypto/x509"
	"time"
)

// sessions is how many TLS sessions with one upstream are kept for resumption.
const sessions = 64

// tlsFor returns how to speak TLS with a target: nil for one that is not https. The error is a *ConfigError.
func (c *Config) tlsFor(target Target) (*tls.Config, error) {
	if c.TLSMinVersion != "1.2" && c.TLSMinVersion != "1.3" {
		return nil, mustBe("tls_min_version", quote(c.TLSMinVersion))
	}
	if !target.TLS {
		if field := c.tlsField(); field != "" {
			return nil, &ConfigError{Field: field, Message: field + " needs https targets, " + quote(target.Given) + " is none"}
		}
		return nil, nil
	}
	config := &tls.Config{
		ServerName:         target.ServerName,
		NextProtos:         []string{"http/1.1"},
		MinVersion:         tls.VersionTLS12,
		ClientSessionCache: tls.NewLRUClientSessionCache(sessions),
		InsecureSkipVerify: c.TLSInsecure, //nolint:gosec // the caller's explicit wish
	}
	if c.TLSMinVersion == "1.3" {
		config.MinVersion = tls.VersionTLS13
	}
	if c.TLSServerName != "" {
		if reason := checkHost(c.TLSServerName); reason != "" {
			return nil, mustBe("tls_server_name", quote(c.TLSServerName)+": "+reason)
		}
		config.ServerName = c.TLSServerName
	}
	if c.TLSCA != "" {
		config.RootCAs = x509.NewCertPool()
		if !config.RootCAs.AppendCertsFromPEM([]byte(c.TLSCA)) {
			return nil, mustBe("tls_ca", "text without one")
		}
	}
	if c.TLSCert != "" || c.TLSKey != "" {
		pair, err := tls.X509KeyPair([]byte(c.TLSCert), []byte(c.TLSKey))
		if err != nil {
			return nil, &ConfigError{Field: "tls_cert", Message: "tls_cert and tls_key cannot be used: " + err.Error()}
		}
		if pair.Leaf != nil && time.Now().After(pair.Leaf.NotAfter) {
			return nil, &ConfigError{Field: "tls_cert", Message: "tls_cert has expired on " + pair.Leaf.NotAfter.Format(time.DateOnly)}
		}
		config.Certificates = []tls.Certificate{pair}
	}
	return config, nil
}

// tlsField is the first option of TLS that was set, if one was.
func (c *Config) tlsField() string {
	switch {
	case c.TLSCA != "":
		return "tls_ca"
	case c.TLSCert != "":
		return "tls_cert"
	case c.TLSKey != "":
		return "tls_key"
	case c.TLSServerName != "":
		return "tls_server_name"
	case c.TLSInsecure:
		return "tls_insecure"
	}
	return ""
}
