{{/*
The volumes of the container. Secrets are readable by every user of the containers that mount them,
which is one container with one user: so nothing depends on a group of the pod.
*/}}

{{/* The name of a volume. In a pod of another chart there are other volumes. */}}
{{- define "faroe-sidecar.volume" -}}
{{- $context := index . 0 -}}
{{- $name := index . 1 -}}
{{- ternary (printf "faroe-sidecar-%s" $name) $name (eq $context.Values.mode "sidecar") -}}
{{- end -}}

{{- define "faroe-sidecar.volumes" -}}
{{- $v := .Values -}}
- name: {{ include "faroe-sidecar.volume" (list . "tls") }}
  {{- if eq $v.certificates.source "spiffe" }}
  csi:
    driver: spiffe.csi.cert-manager.io
    readOnly: true
    volumeAttributes:
      spiffe.csi.cert-manager.io/fs-group: {{ $v.securityContext.runAsGroup | quote }}
  {{- else }}
  secret:
    secretName: {{ include "faroe-sidecar.serverSecretName" . }}
    defaultMode: 0444
  {{- end }}
{{- with $v.certificates.clientCA.secretName }}
- name: {{ include "faroe-sidecar.volume" (list $ "client-ca") }}
  secret:
    secretName: {{ . }}
    defaultMode: 0444
{{- end }}
{{- with $v.store.urlSecret.name }}
- name: {{ include "faroe-sidecar.volume" (list $ "store") }}
  {{- include "faroe-sidecar.urlVolume" $v.store.urlSecret | nindent 2 }}
{{- end }}
{{- if $v.store.tls.secretName }}
{{ include "faroe-sidecar.storeTlsVolume" . }}
{{- end }}
{{- if hasPrefix "unix:" $v.store.url }}
- name: {{ include "faroe-sidecar.volume" (list . "userstore") }}
  emptyDir:
    medium: Memory
    sizeLimit: 1Mi
{{- end }}
{{- end -}}

{{/* The URL of a database, as the file "url". */}}
{{- define "faroe-sidecar.urlVolume" -}}
secret:
  secretName: {{ .name }}
  defaultMode: 0444
  items:
    - key: {{ .key | quote }}
      path: url
{{- end -}}

{{- define "faroe-sidecar.storeTlsVolume" -}}
- name: {{ include "faroe-sidecar.volume" (list . "store-tls") }}
  secret:
    secretName: {{ .Values.store.tls.secretName }}
    defaultMode: 0444
{{- end -}}
