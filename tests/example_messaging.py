from syncd import MessageService

with MessageService("shop") as shop, MessageService("billing") as billing:
    # The shop asks. When send_message returns, the message stands in both projects.
    question = shop.send_message(
        to_project="billing",
        to_agent="engineer",
        message_type="request",
        subject="Totals differ by a cent",
        body="Do you round per line or per invoice?",
        priority="high",
        attachments=["src/totals.py"],
    )

    # Billing reads what is new, answers, and files it away.
    for message in billing.list_messages(status="unread"):
        print(f"{message.from_agent} asks: {message.subject} [{message.priority}]")
        billing.read_message(message.id)
        billing.reply_to_message(message.id, subject="", body="Per line, half to even.")
        billing.archive_message(message.id)

    # The shop finds the answer to its question.
    for message in shop.list_messages():
        if message.reply_to == question.id:
            print(f"{message.subject}: {message.body}")
