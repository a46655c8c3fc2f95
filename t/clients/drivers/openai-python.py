"""The package openai, which reads a chat completion."""

from openai import OpenAI

from report import address, report, report_end


def read():
    client = OpenAI(api_key="none", base_url=address)
    for chunk in client.chat.completions.create(model="none", messages=[], stream=True):
        report(event=chunk.choices[0].delta.content)


report_end(read)
