"""Who may do what, and what keeps it so: certificates, tokens, the audit.

- `tls` makes certificates and contexts, `certificate_life` says how long one lasts, `renewal`
  renews it and takes up what others renewed.
- `tokens` is the file of tokens, `token_uses` when each was used last, `audit` a line for each
  order.

What is stored is encrypted by `edge_agent.seal`, which the store itself needs.
"""
